//! Loads and stores of vectors, of which the last may be partial, and `e^x` of a vector.

use super::super::level::MAX_LANES;
use macerator::{Scalar, Simd, Vector, vload_unaligned, vstore_unaligned};
use std::f32::consts::LOG2_E;

/// The numbers from `at` on, up to the lanes of a vector or up to `len`; `rest` in the other lanes.
///
/// # Safety
///
/// There are `len` numbers.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(
    from: *const f32,
    at: usize,
    len: usize,
    rest: f32,
) -> Vector<S, f32> {
    // SAFETY: as of the caller.
    unsafe {
        if at + S::lanes32() <= len {
            return vload_unaligned(from.add(at));
        }
        let mut part = [rest; MAX_LANES];
        std::ptr::copy_nonoverlapping(from.add(at), part.as_mut_ptr(), len - at);
        vload_unaligned(part.as_ptr())
    }
}

/// Writes as many numbers as [`load`] reads.
///
/// # Safety
///
/// There is room for `len` numbers.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(to: *mut f32, at: usize, len: usize, value: Vector<S, f32>) {
    // SAFETY: as of the caller.
    unsafe {
        if at + S::lanes32() <= len {
            return vstore_unaligned(to.add(at), value);
        }
        let mut part = [0f32; MAX_LANES];
        vstore_unaligned(part.as_mut_ptr(), value);
        std::ptr::copy_nonoverlapping(part.as_ptr(), to.add(at), len - at);
    }
}

/// The dot product.
///
/// # Safety
///
/// Both operands have `len` numbers.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, len: usize) -> f32 {
    let mut sum = 0f32.splat::<S>();
    let mut at = 0;
    while at < len {
        // SAFETY: as of the caller.
        unsafe {
            let a: Vector<S, f32> = load(a, at, len, 0.0);
            sum = a.mul_add(load(b, at, len, 0.0), sum);
        }
        at += S::lanes32();
    }
    sum.reduce_add()
}

/// `e^x = 2^n e^r`, where `n` is the integer next to `x / ln 2`, and `r` the rest, at most half of `ln 2`. The error of
/// its power series to the seventh term is a tenth of a rounding error.
#[inline(always)]
pub(super) fn exp<S: Simd>(x: Vector<S, f32>) -> Vector<S, f32> {
    // ln 2 in two parts, the first of few bits: its products with `n` are exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = (std::f64::consts::LN_2 - HIGH as f64) as f32;
    // 1 / 7!, .. 1 / 1!, 1.
    const SERIES: [f32; 8] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    // Beyond these the result is 0 and infinity.
    let within = x.max((-104f32).splat()).min(89f32.splat());
    let n = (within * LOG2_E.splat()).round_to_int();
    let float = n.to_float();
    let rest = float.mul_add((-HIGH).splat(), within);
    let rest = float.mul_add((-LOW).splat(), rest);
    let mut power: Vector<S, f32> = SERIES[0].splat();
    for term in &SERIES[1..] {
        power = power.mul_add(rest, term.splat());
    }
    // 2^n by halves, since it may be out of range where the result is not.
    let half = n >> 1;
    let result = power * two_to::<S>(half) * two_to::<S>(n - half);
    x.eq(x).select(result, x)
}

/// `2^n`, which must be a normal number.
#[inline(always)]
fn two_to<S: Simd>(n: Vector<S, i32>) -> Vector<S, f32> {
    ((n + 127i32.splat()) << 23).reinterpret()
}
