//! Unpacks codes from words, for a vector of neighbouring columns at a time.

use super::level::MAX_LANES;
use super::weight::{Weight, Zeros};
use macerator::{Scalar, Simd, Vector, vload_unaligned};

/// Words of a block, three at most.
pub(super) type Words<S> = [Vector<S, u32>; 3];

/// Runs `$body` with `$bits` as a constant of the width of `$width`.
macro_rules! with_bits {
    ($width:expr, $bits:ident => $body:expr) => {
        match $width {
            crate::Bits::Two => {
                const $bits: usize = 2;
                $body
            }
            crate::Bits::Three => {
                const $bits: usize = 3;
                $body
            }
            crate::Bits::Four => {
                const $bits: usize = 4;
                $body
            }
            crate::Bits::Eight => {
                const $bits: usize = 8;
                $body
            }
        }
    };
}
pub(super) use with_bits;

/// Words in a block of codes.
pub(super) const fn block_words(bits: usize) -> usize {
    match bits {
        3 => 3,
        _ => 1,
    }
}

/// Codes in a block.
pub(super) const fn block_fields(bits: usize) -> usize {
    block_words(bits) * 32 / bits
}

/// The words of block `at` of as many columns as a vector has lanes, from `column` on.
///
/// # Safety
///
/// The weight has all words of the block, and the columns.
#[inline(always)]
pub(super) unsafe fn load_block<S: Simd, const BITS: usize>(
    weight: &Weight,
    at: usize,
    column: usize,
) -> Words<S> {
    let n = weight.problem.n;
    let mut words = [0u32.splat::<S>(); 3];
    for (i, word) in words.iter_mut().enumerate().take(block_words(BITS)) {
        let row = at * block_words(BITS) + i;
        // SAFETY: see above.
        *word = unsafe { vload_unaligned(weight.codes.as_ptr().add(row * n + column)) };
    }
    words
}

/// Code `i` of a block.
#[inline(always)]
pub(super) fn code<S: Simd, const BITS: usize>(words: &Words<S>, i: usize) -> Vector<S, f32> {
    let (at, shift) = (i * BITS / 32, (i * BITS % 32) as u32);
    let mut code = match shift {
        0 => words[at],
        _ => words[at] >> shift,
    };
    if shift as usize + BITS > 32 {
        code |= words[at + 1] << (32 - shift);
    }
    if shift as usize + BITS != 32 {
        code &= ((1u32 << BITS) - 1).splat();
    }
    code.reinterpret::<i32>().to_float()
}

/// The shift of code `i` of a block in the result of [`scaled_code`].
pub(super) const fn scaled_shift(bits: usize, i: usize) -> u32 {
    let shift = i * bits % 32;
    if shift + bits > 32 {
        0
    } else {
        (shift % 16) as u32
    }
}

/// Code `i` of a block times `2^scaled_shift`, which saves a shift. `high` has the words shifted
/// down by 16, so that no code reaches the sign bit.
#[inline(always)]
pub(super) fn scaled_code<S: Simd, const BITS: usize>(
    words: &Words<S>,
    high: &Words<S>,
    i: usize,
) -> Vector<S, f32> {
    let (at, shift) = (i * BITS / 32, i * BITS % 32);
    if shift + BITS > 32 {
        return code::<S, BITS>(words, i);
    }
    let word = if shift < 16 { words[at] } else { high[at] };
    let mask = ((1u32 << BITS) - 1) << scaled_shift(BITS, i);
    (word & mask.splat()).reinterpret::<i32>().to_float()
}

/// Zero points of a group in as many columns as a vector has lanes.
///
/// # Safety
///
/// The weight has the columns.
#[inline(always)]
pub(super) unsafe fn zeros<S: Simd, const BITS: usize>(
    weight: &Weight,
    group: usize,
    column: usize,
) -> Vector<S, f32> {
    let lanes = S::lanes32();
    let words = match weight.zero_points {
        Zeros::Numbers(z) => {
            let at = group * weight.problem.n + column;
            // SAFETY: see above.
            return unsafe { vload_unaligned(z.as_ptr().add(at)) };
        }
        Zeros::Packed(words) => words,
    };
    if lanes * BITS > 32 || !(column * BITS).is_multiple_of(8) {
        let mut values = [0f32; MAX_LANES];
        for (i, value) in values.iter_mut().enumerate().take(lanes) {
            *value = weight.zero(group, column + i);
        }
        // SAFETY: no vector has more lanes.
        return unsafe { vload_unaligned(values.as_ptr()) };
    }
    // A product moves each lane's field to the top, where one shift brings it down.
    const fn factors(bits: usize) -> [u32; MAX_LANES] {
        let mut factors = [0; MAX_LANES];
        let mut i = 0;
        while i < MAX_LANES && (i + 1) * bits <= 32 {
            factors[i] = 1 << (32 - (i + 1) * bits);
            i += 1;
        }
        factors
    }
    let factors = const { factors(BITS) };
    // SAFETY: no vector has more lanes.
    let factors: Vector<S, u32> = unsafe { vload_unaligned(factors.as_ptr()) };
    let word: Vector<S, u32> = weight.zero_bits(words, group, column).splat();
    let fields = (word * factors) >> (32 - BITS as u32);
    fields.reinterpret::<i32>().to_float()
}
