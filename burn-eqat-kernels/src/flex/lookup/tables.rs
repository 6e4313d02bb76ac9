//! Tables of an input.

use super::shape::Shape;
use crate::Activations;
use std::arch::x86_64::*;

/// Fractions of an entry while a table is computed, a power of two. Entries are rounded once, from sums.
const FRACTION: i32 = 1 << 8;

/// The tables of a row of the input.
pub(super) struct Tables {
    /// Bytes of an entry: three, or one.
    pub planes: usize,
    /// Tables for pairs of rows, `[chunks, rows / 2, planes, 16]`.
    pub pairs: Vec<u8>,
    /// Tables for four rows, for the third bit of 3-bit codes, `[chunks, rows / 4, planes, 16]`.
    pub fours: Vec<u8>,
    pub chunks: Vec<Chunk>,
    /// Sums of the values over groups.
    pub sums: Vec<f32>,
}

/// The meaning of sums of a chunk's entries.
#[derive(Clone, Copy, Default)]
pub(super) struct Chunk {
    /// Subtracted from a sum, because entries are not negative and halves round up.
    pub offset: i32,
    /// The value of a unit.
    pub unit: f32,
}

impl Tables {
    /// `None` if a value is not finite, or a chunk is so small that its unit would not be a number.
    ///
    /// Entries have 8 bits if `activations` allows it.
    #[target_feature(enable = "avx2")]
    pub fn new(shape: Shape, x: &[f32], activations: Activations) -> Option<Self> {
        match activations {
            Activations::Int8 => Self::make::<1>(shape, x),
            Activations::Exact => Self::make::<3>(shape, x),
        }
    }

    #[target_feature(enable = "avx2")]
    fn make<const P: usize>(shape: Shape, x: &[f32]) -> Option<Self> {
        let count = x.len() / shape.rows;
        let fours = 2 * shape.high();
        let (pair_bytes, four_bytes) = (shape.rows / 2 * P * 16, fours * P * 16);
        let mut made = Tables {
            planes: P,
            pairs: vec![0; count * pair_bytes],
            fours: vec![0; count * four_bytes],
            chunks: vec![Chunk::default(); count],
            sums: vec![0.0; shape.groups],
        };
        let mut integers = [0i32; 64];
        let integers = &mut integers[..shape.rows];
        for (at, x) in x.chunks_exact(shape.rows).enumerate() {
            let scale = to_integers::<P>(x, integers)?;
            let unit = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let sum: i64 = integers.iter().map(|x| i64::from(*x)).sum();
            made.sums[at / shape.chunks] += sum as f32 * unit;
            let pairs = &mut made.pairs[at * pair_bytes..];
            for (i, x) in integers.chunks_exact(2).enumerate() {
                write::<P>(pair_entries(x), &mut pairs[i * P * 16..]);
            }
            if fours > 0 {
                let fours = &mut made.fours[at * four_bytes..];
                for (i, x) in integers.chunks_exact(4).enumerate() {
                    write::<P>(four_entries(x), &mut fours[i * P * 16..]);
                }
            }
            made.chunks[at] = Chunk {
                offset: offset(shape, integers),
                unit: unit * FRACTION as f32,
            };
        }
        Some(made)
    }
}

/// The total offset of a chunk's entries, which does not depend on the codes.
fn offset(shape: Shape, integers: &[i32]) -> i32 {
    let negative: i64 = integers.iter().map(|x| i64::from(*x.min(&0))).sum();
    // The largest a part of a code can be, times what the part counts.
    let weight = match shape.bits {
        2 => 3,
        _ => 3 + 4,
    };
    let shifted = -(negative * weight) as f64 / f64::from(FRACTION);
    // Two entries are averaged, rounding up, and taken twice: half a unit too much on average.
    let rounding = 0.5 * (shape.pairs() + 4 * shape.high()) as f64;
    (shifted + rounding).round() as i32
}

/// Converts a chunk to integers, and returns the factor of its values.
#[target_feature(enable = "avx2")]
fn to_integers<const P: usize>(x: &[f32], integers: &mut [i32]) -> Option<f32> {
    // As integers, sizes have an order, with what is not finite at its end.
    let size = x
        .iter()
        .fold(0, |size, x| size.max(x.to_bits() & 0x7fff_ffff));
    let size = f32::from_bits(size);
    if !size.is_finite() || (size > 0.0 && size < 1e-25) {
        return None;
    }
    let mut most = 0f32;
    for pair in x.chunks_exact(2) {
        most = most.max(pair[0].abs() + pair[1].abs());
    }
    if !most.is_finite() {
        return None;
    }
    // 30 bits or 16, of which entries lose eight; a little less, as entries are rounded.
    let top = match P {
        1 => (1 << 16) - 512,
        _ => (1 << 30) - 512,
    };
    let scale = if size > 0.0 {
        top as f32 / 3.0 / most
    } else {
        0.0
    };
    for (integer, x) in integers.iter_mut().zip(x) {
        let scaled = x * scale;
        // SAFETY: it is at most a third of `top`, and a half.
        *integer = unsafe { (scaled + 0.5f32.copysign(scaled)).to_int_unchecked() };
    }
    Some(scale)
}

/// `c0 x0 + c1 x1` for the pairs of two-bit codes `c0 + 4 c1`, from 0 up.
#[target_feature(enable = "avx2")]
fn pair_entries(x: &[i32]) -> [__m256i; 2] {
    let base = FRACTION / 2 - 3 * (x[0].min(0) + x[1].min(0));
    let codes = _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3);
    let first = _mm256_mullo_epi32(_mm256_set1_epi32(x[0]), codes);
    let high = _mm256_setr_epi32(0, 0, 0, 0, x[1], x[1], x[1], x[1]);
    let low = _mm256_add_epi32(_mm256_add_epi32(first, high), _mm256_set1_epi32(base));
    [low, _mm256_add_epi32(low, _mm256_set1_epi32(2 * x[1]))]
}

/// The sums of the subsets of four values, from 0 up.
#[target_feature(enable = "avx2")]
fn four_entries(x: &[i32]) -> [__m256i; 2] {
    let negative: i32 = x.iter().map(|x| x.min(&0)).sum();
    let base = FRACTION / 2 - negative;
    let two = x[0] + x[1];
    let low = _mm256_setr_epi32(
        0,
        x[0],
        x[1],
        two,
        x[2],
        x[2] + x[0],
        x[2] + x[1],
        x[2] + two,
    );
    let low = _mm256_add_epi32(low, _mm256_set1_epi32(base));
    [low, _mm256_add_epi32(low, _mm256_set1_epi32(x[3]))]
}

/// Writes the bytes of 16 entries, one plane after the other: the low 8 bits, and twice 7 bits, so that two
/// entries of a plane can be added in a byte. (The low bits are averaged.)
#[target_feature(enable = "avx2")]
fn write<const P: usize>(entries: [__m256i; 2], table: &mut [u8]) {
    // Bytes 1, 2 and 3 of an integer become the planes; byte 0 is the fraction.
    let gather = _mm256_setr_epi8(
        1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11,
        15, 0, 4, 8, 12,
    );
    let mut planes = entries;
    for entries in &mut planes {
        // Moves all above the second plane's 7 bits up by one, to the beginning of a byte.
        let above = _mm256_and_si256(*entries, _mm256_set1_epi32(!0x7f_ffff));
        *entries = _mm256_shuffle_epi8(_mm256_add_epi32(*entries, above), gather);
    }
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let two = _mm256_unpacklo_epi32(planes[0], planes[1]);
    let two = _mm256_permutevar8x32_epi32(two, order);
    assert!(table.len() >= P * 16);
    let to: *mut u8 = table.as_mut_ptr();
    // SAFETY: the table has the bytes of its planes, as was checked.
    unsafe {
        if P == 1 {
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(two));
            return;
        }
        _mm256_storeu_si256(to.cast(), two);
        let third = _mm256_unpackhi_epi32(planes[0], planes[1]);
        let third = _mm256_permutevar8x32_epi32(third, order);
        _mm_storeu_si128(to.add(32).cast(), _mm256_castsi256_si128(third));
    }
}
