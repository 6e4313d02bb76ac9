//! Passes over numbers, a vector at a time.

use super::super::parallel::{self, Shared};
use crate::flex::level::Level;
use macerator::{Scalar, Simd, Vector, WithSimd, vload_unaligned, vstore_unaligned};
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// What is worked out of `I` numbers at the same place: `O` others.
pub(super) trait Elementwise<const I: usize, const O: usize>: Copy + Send + Sync {
    fn apply<S: Simd>(self, x: [Vector<S, f32>; I]) -> [Vector<S, f32>; O];
}

/// `e^x`.
#[derive(Clone, Copy)]
pub(super) struct Exp;

/// `silu(gate) * up`.
#[derive(Clone, Copy)]
pub(super) struct Swiglu;

/// Gradients of [`Swiglu`] by `gate` and `up`, from those and the gradient of the result.
#[derive(Clone, Copy)]
pub(super) struct SwigluBackward;

/// `e^(x - largest)`.
#[derive(Clone, Copy)]
struct ExpLess(f32);

impl Elementwise<1, 1> for Exp {
    #[inline(always)]
    fn apply<S: Simd>(self, [x]: [Vector<S, f32>; 1]) -> [Vector<S, f32>; 1] {
        [exp(x)]
    }
}

impl Elementwise<1, 1> for ExpLess {
    #[inline(always)]
    fn apply<S: Simd>(self, [x]: [Vector<S, f32>; 1]) -> [Vector<S, f32>; 1] {
        [exp(x - self.0.splat())]
    }
}

impl Elementwise<2, 1> for Swiglu {
    #[inline(always)]
    fn apply<S: Simd>(self, [gate, up]: [Vector<S, f32>; 2]) -> [Vector<S, f32>; 1] {
        [gate * sigmoid(gate) * up]
    }
}

impl Elementwise<3, 2> for SwigluBackward {
    #[inline(always)]
    fn apply<S: Simd>(self, [gate, up, grad]: [Vector<S, f32>; 3]) -> [Vector<S, f32>; 2] {
        let one = 1f32.splat::<S>();
        let sigmoid = sigmoid(gate);
        // By the gate: s (1 + g (1 - s)).
        let slope = sigmoid * gate.mul_add(one - sigmoid, one);
        [grad * up * slope, grad * gate * sigmoid]
    }
}

#[inline(always)]
fn sigmoid<S: Simd>(x: Vector<S, f32>) -> Vector<S, f32> {
    let one = 1f32.splat::<S>();
    one / (one + exp(0f32.splat() - x))
}

/// `e^x = 2^n e^r`, where `n` is the integer next to `x / ln 2`, and `r` the rest, at most half of `ln 2`: its power
/// series to the seventh term is off by a tenth of a rounding.
#[inline(always)]
fn exp<S: Simd>(x: Vector<S, f32>) -> Vector<S, f32> {
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

/// `2^n`, for a normal one.
#[inline(always)]
fn two_to<S: Simd>(n: Vector<S, i32>) -> Vector<S, f32> {
    ((n + 127i32.splat()) << 23).reinterpret()
}

/// No vector has more lanes.
const MAX_LANES: usize = 16;

/// Applies `op` to `len` numbers of each of `from`. Results may take the place of operands.
///
/// # Safety
///
/// All are there, and nobody else uses the results.
#[allow(clippy::needless_range_loop)] // no closures here: they would not have this level's instructions
#[inline(always)]
unsafe fn each<S: Simd, const I: usize, const O: usize>(
    op: impl Elementwise<I, O>,
    from: [*const f32; I],
    to: [*mut f32; O],
    len: usize,
) {
    let lanes = S::lanes32();
    let mut at = 0;
    // SAFETY: as of the caller; a vector is read before it is written.
    unsafe {
        while at + lanes <= len {
            let mut x = [0f32.splat::<S>(); I];
            for i in 0..I {
                x[i] = vload_unaligned(from[i].add(at));
            }
            let y = op.apply(x);
            for o in 0..O {
                vstore_unaligned(to[o].add(at), y[o]);
            }
            at += lanes;
        }
        if at < len {
            let mut x = [0f32.splat::<S>(); I];
            for i in 0..I {
                let mut rest = [0f32; MAX_LANES];
                std::ptr::copy_nonoverlapping(from[i].add(at), rest.as_mut_ptr(), len - at);
                x[i] = vload_unaligned(rest.as_ptr());
            }
            let y = op.apply(x);
            for o in 0..O {
                let mut rest = [0f32; MAX_LANES];
                vstore_unaligned(rest.as_mut_ptr(), y[o]);
                std::ptr::copy_nonoverlapping(rest.as_ptr(), to[o].add(at), len - at);
            }
        }
    }
}

/// A pass over parts of operands.
struct Pass<E, const I: usize, const O: usize> {
    op: E,
    from: [Shared; I],
    to: [Shared; O],
    range: Range<usize>,
}

impl<E: Elementwise<I, O>, const I: usize, const O: usize> WithSimd for Pass<E, I, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Range { start, end } = self.range;
        let from = self.from.map(|from| from.at(start).cast_const());
        let to = self.to.map(|to| to.at(start));
        // SAFETY: the range is in bounds of all, and this task's.
        unsafe { each::<S, I, O>(self.op, from, to, end - start) };
    }
}

/// Numbers of a task.
const TASK: usize = 1 << 14;

/// About how many multiplications an exponential takes.
const WORK: usize = 8;

/// Applies `op` to all `len` numbers of the operands, on every thread. Results may take the place of operands.
///
/// # Safety
///
/// There are as many, and nobody else uses the results.
pub(super) unsafe fn run<const I: usize, const O: usize>(
    level: Level,
    op: impl Elementwise<I, O>,
    from: [Shared; I],
    to: [Shared; O],
    len: usize,
) {
    let tasks = len.div_ceil(TASK);
    parallel::each(tasks, parallel::threads(len * WORK), |at| {
        level.run(Pass {
            op,
            from,
            to,
            range: parallel::part(len, MAX_LANES, tasks, at),
        })
    });
}

/// Scores `[matrices, rows, keys]`.
#[derive(Clone, Copy)]
pub(super) struct Scores {
    pub from: Shared,
    pub to: Shared,
    pub rows: usize,
    pub keys: usize,
    pub window: Option<usize>,
}

impl Scores {
    /// Makes weights of them, perhaps in their place.
    ///
    /// # Safety
    ///
    /// They are there, and nobody else uses the weights.
    pub unsafe fn weigh(self, level: Level, matrices: usize) {
        let (all, tasks) = (matrices * self.rows, (matrices * self.rows).div_ceil(64));
        let threads = parallel::threads(all * self.keys * WORK);
        parallel::each(tasks, threads, |at| {
            level.run(Rows {
                scores: self,
                range: parallel::part(all, 1, tasks, at),
            })
        });
    }
}

/// Rows of all matrices, one behind the other.
struct Rows {
    scores: Scores,
    range: Range<usize>,
}

impl WithSimd for Rows {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Scores {
            from,
            to,
            rows,
            keys,
            window,
        } = self.scores;
        for at in self.range {
            let end = keys - rows + at % rows + 1;
            let start = end - window.unwrap_or(keys).min(end);
            let (from, to) = (from.at(at * keys), to.at(at * keys));
            // SAFETY: the row is in bounds, and this task's.
            unsafe {
                let seen = from.add(start).cast_const();
                let largest = largest::<S>(seen, end - start);
                let op = ExpLess(largest);
                each::<S, 1, 1>(op, [seen], [to.add(start)], end - start);
                std::slice::from_raw_parts_mut(to, start).fill(0.0);
                std::slice::from_raw_parts_mut(to.add(end), keys - end).fill(0.0);
            }
        }
    }
}

/// # Safety
///
/// There are so many.
#[inline(always)]
unsafe fn largest<S: Simd>(from: *const f32, len: usize) -> f32 {
    let lanes = S::lanes32();
    let mut largest = f32::NEG_INFINITY;
    let mut at = 0;
    // SAFETY: as of the caller.
    unsafe {
        if lanes <= len {
            let mut all: Vector<S, f32> = vload_unaligned(from);
            at = lanes;
            while at + lanes <= len {
                all = all.max(vload_unaligned(from.add(at)));
                at += lanes;
            }
            let mut each = [f32::NEG_INFINITY; MAX_LANES];
            vstore_unaligned(each.as_mut_ptr(), all);
            for value in each {
                largest = largest.max(value);
            }
        }
        for at in at..len {
            largest = largest.max(*from.add(at));
        }
    }
    largest
}
