//! Splits the input into signed bytes.

use super::super::fields::block_fields;
use super::super::select::EXACT_DIGITS;
use super::super::weight::Weight;
use super::layout::{code, shift, vectors};
use crate::Bits;
use crate::problem::Problem;

/// The most codes of a chunk. A chunk has one scale, and its 16-bit sums must not overflow: the largest code
/// times 128, for half of the codes (products are added in pairs). Those of 8-bit codes are in 32 bits, and must not
/// overflow times 256.
pub(super) const fn most_codes(bits: usize) -> usize {
    match bits {
        4 => 32,
        _ => 64,
    }
}

/// Rows of an input, split into chunks. The values of a chunk are integers times one scale, and the integers
/// are split into digits to the base 256.
pub(super) struct Digits {
    pub rows: usize,
    pub digits: usize,
    /// Blocks of codes in a chunk; divides the blocks in a group.
    pub blocks: usize,
    /// Digits of four codes, as [`code`] orders them: `[blocks, digits, vectors, rows]`.
    pub words: Vec<u32>,
    /// `[chunks, rows]`.
    pub scales: Vec<f32>,
    /// Sums of the values over groups, `[groups, rows]`.
    pub sums: Vec<f32>,
    /// The values, `[rows, k]`, for the remaining columns that do not fill a vector.
    pub values: Vec<f32>,
}

impl Digits {
    /// `None` if a value is not finite, or a chunk is so small that its scale would not be a number.
    ///
    /// Inlined, so that the caller's instructions are used. With one row, it takes a noticeable part of the time.
    #[inline(always)]
    pub fn new(weight: &Weight, x: &[f32], rows: usize, digits: usize) -> Option<Self> {
        match (weight.problem.bits, digits) {
            (Bits::Two, 1) => Self::make::<2, 1>(weight, x, rows),
            (Bits::Two, _) => Self::make::<2, EXACT_DIGITS>(weight, x, rows),
            (Bits::Three, 1) => Self::make::<3, 1>(weight, x, rows),
            (Bits::Three, _) => Self::make::<3, EXACT_DIGITS>(weight, x, rows),
            (Bits::Four, 1) => Self::make::<4, 1>(weight, x, rows),
            (Bits::Four, _) => Self::make::<4, EXACT_DIGITS>(weight, x, rows),
            (Bits::Eight, _) => Self::make::<8, EXACT_DIGITS>(weight, x, rows),
        }
    }

    #[inline(always)]
    fn make<const BITS: usize, const DIGITS: usize>(
        weight: &Weight,
        x: &[f32],
        rows: usize,
    ) -> Option<Self> {
        let Problem { k, n, groups, .. } = weight.problem;
        let block = block_fields(BITS);
        let group = weight.problem.group() / block;
        let most = (most_codes(BITS) / block).min(group);
        let mut counts = (1..=most).rev();
        let blocks = counts.find(|blocks| group.is_multiple_of(*blocks))?;
        let chunk = blocks * block;
        let mut made = Digits {
            rows,
            digits: DIGITS,
            blocks,
            words: vec![0; k / 4 * DIGITS * rows],
            scales: vec![0.0; k / chunk * rows],
            sums: vec![0.0; groups * rows],
            values: vec![0.0; if n.is_multiple_of(16) { 0 } else { x.len() }],
        };
        let mut integers = [0i32; 64];
        let integers = &mut integers[..chunk];
        for (row, x) in x.chunks_exact(k).enumerate() {
            for (at, x) in x.chunks_exact(chunk).enumerate() {
                let scale = to_integers::<BITS, DIGITS>(x, integers)?;
                made.scales[at * rows + row] = scale;
                let sum: i32 = integers.iter().sum();
                made.sums[at / (group / blocks) * rows + row] += sum as f32 * scale;
                if !made.values.is_empty() {
                    let values = &mut made.values[row * k + at * chunk..][..chunk];
                    for (value, integer) in values.iter_mut().zip(&*integers) {
                        *value = *integer as f32 * scale;
                    }
                }
                for (within, integers) in integers.chunks_exact(block).enumerate() {
                    let len = vectors(BITS) * DIGITS * rows;
                    let words = &mut made.words[(at * blocks + within) * len..][..len];
                    to_words::<BITS, DIGITS>(integers, words, rows, row);
                }
            }
        }
        Some(made)
    }
}

/// Converts a chunk to integers whose digits are bytes, and returns their scale.
#[inline(always)]
fn to_integers<const BITS: usize, const DIGITS: usize>(
    x: &[f32],
    integers: &mut [i32],
) -> Option<f32> {
    // As integers, sizes have an order, with what is not finite at its end.
    let size = x
        .iter()
        .fold(0, |size, x| size.max(x.to_bits() & 0x7fff_ffff));
    let size = f32::from_bits(size);
    if !size.is_finite() || (size > 0.0 && size < 1e-30) {
        return None;
    }
    let largest = match DIGITS {
        1 => 127.0f32,
        _ => (127 << 16) as f32,
    };
    let inverse = if size > 0.0 { largest / size } else { 0.0 };
    for (integer, x) in integers.iter_mut().zip(x) {
        let scaled = x * inverse;
        // SAFETY: it is at most `largest`, and a half.
        *integer = unsafe { (scaled + 0.5f32.copysign(scaled)).to_int_unchecked() };
    }
    if shift(BITS, DIGITS, 1) > 0 {
        // Every second code is in a vector whose digits are divided by four: to the nearest multiple,
        // half to even.
        for (i, integer) in integers.iter_mut().enumerate() {
            let nearest = (*integer + 1 + (*integer >> 2 & 1)) & !3;
            *integer = if i % 2 == 1 { nearest } else { *integer };
        }
    }
    Some(size / largest)
}

/// Packs the digits of four codes into each word.
#[inline(always)]
fn to_words<const BITS: usize, const DIGITS: usize>(
    integers: &[i32],
    words: &mut [u32],
    rows: usize,
    row: usize,
) {
    for digit in 0..DIGITS {
        for vector in 0..vectors(BITS) {
            let mut word = 0;
            for byte in 0..4 {
                let integer = integers[code(BITS, vector, byte)] >> shift(BITS, DIGITS, vector);
                // Bytes of this are the digits, each with 128 more.
                let biased = (integer + 0x0080_8080) as u32;
                word |= (biased >> (8 * digit) & 0xff) << (8 * byte);
            }
            words[(digit * vectors(BITS) + vector) * rows + row] = word ^ 0x8080_8080;
        }
    }
}
