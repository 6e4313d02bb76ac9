//! Registers of sixteen lanes in plain Rust, for tests. They are as wide as those of AVX-512, which few CPUs have.

use super::super::level::Level;
use super::super::weight::Weight;
use super::kernel::{Run, Task};
use super::registers::Registers;
use std::array::from_fn;

/// Sixteen columns in a vector; products are added in 32 bits, as with VNNI.
struct Emulated;

/// [`super::forward`] on emulated registers.
pub(in crate::flex) fn forward(
    level: Level,
    weight: &Weight,
    digits: usize,
    x: &[f32],
    y: &mut [f32],
) -> bool {
    // SAFETY: the registers need no instructions.
    let dot = |task: Task<'_>| unsafe { Run::<Emulated>::run(task) };
    super::forward_by(dot, level, weight, digits, x, y)
}

impl Registers for Emulated {
    const LANES: usize = 16;
    type Words = [u32; 16];
    type Sums = [i32; 16];
    type Floats = [f32; 16];

    unsafe fn load(words: *const u32) -> [u32; 16] {
        from_fn(|i| unsafe { *words.add(i) })
    }
    unsafe fn splat(word: u32) -> [u32; 16] {
        [word; 16]
    }
    unsafe fn and(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        from_fn(|i| a[i] & b[i])
    }
    unsafe fn or(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        from_fn(|i| a[i] | b[i])
    }
    unsafe fn shl<const BY: i32>(a: [u32; 16]) -> [u32; 16] {
        a.map(|word| word << BY)
    }
    unsafe fn shr<const BY: i32>(a: [u32; 16]) -> [u32; 16] {
        a.map(|word| word >> BY)
    }
    unsafe fn add(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    unsafe fn blend(a: [u32; 16], b: [u32; 16], mask: u32) -> [u32; 16] {
        from_fn(|i| a[i] & !mask | b[i] & mask)
    }
    unsafe fn none() -> [i32; 16] {
        [0; 16]
    }
    unsafe fn dot(sums: [i32; 16], codes: [u32; 16], digits: [u32; 16]) -> [i32; 16] {
        from_fn(|i| {
            let pairs = codes[i]
                .to_le_bytes()
                .into_iter()
                .zip(digits[i].to_le_bytes());
            pairs.fold(sums[i], |sum, (code, digit)| {
                sum + i32::from(code) * i32::from(digit as i8)
            })
        })
    }
    unsafe fn total(sums: [i32; 16]) -> [u32; 16] {
        sums.map(|sum| sum as u32)
    }
    unsafe fn fields<const BITS: usize>(low: u64, high: u64) -> [f32; 16] {
        from_fn(|i| {
            let fields = if i < 8 { low } else { high };
            (fields >> (i % 8 * BITS) & ((1 << BITS) - 1)) as f32
        })
    }
    unsafe fn floats(integers: [u32; 16]) -> [f32; 16] {
        integers.map(|integer| integer as i32 as f32)
    }
    unsafe fn load_floats(from: *const f32) -> [f32; 16] {
        from_fn(|i| unsafe { *from.add(i) })
    }
    unsafe fn store_floats(to: *mut f32, value: [f32; 16]) {
        for (i, value) in value.into_iter().enumerate() {
            unsafe { *to.add(i) = value };
        }
    }
    unsafe fn splat_float(value: f32) -> [f32; 16] {
        [value; 16]
    }
    unsafe fn mul_add(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    unsafe fn mul_sub_from(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
    }
}
