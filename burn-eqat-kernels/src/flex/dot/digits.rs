//! The input in signed bytes.

use super::super::weight::Weight;
use super::layout::{code, shift, vectors};
use crate::plan::Problem;

/// Codes of a chunk at most, over which one scale holds and 16-bit sums cannot overflow: the largest
/// code times 128, for half of the codes (products are added in pairs).
pub(super) const fn most_codes(bits: usize) -> usize {
    match bits {
        4 => 32,
        _ => 64,
    }
}

/// Rows of an input, cut into chunks; the values of a chunk are integers times one scale, and the
/// integers are made of digits to the base 256.
pub(super) struct Digits {
    pub rows: usize,
    pub digits: usize,
    /// Blocks of codes in a chunk; divides those in a group.
    pub blocks: usize,
    /// Digits of four codes, as [`code`] orders them: `[k / 4, digits, rows]`.
    pub words: Vec<u32>,
    /// `[chunks, rows]`.
    pub scales: Vec<f32>,
    /// Sums of the values over groups, `[groups, rows]`.
    pub sums: Vec<f32>,
    /// The values, `[rows, k]`, where columns are left for which there is no vector.
    pub values: Vec<f32>,
}

impl Digits {
    /// None where a value is not finite, or a chunk so small that its scale would not be a number.
    pub fn new(weight: &Weight, x: &[f32], rows: usize, digits: usize) -> Option<Self> {
        let Problem {
            k, n, groups, bits, ..
        } = weight.problem;
        let (block, bits) = (weight.block().fields, bits.get());
        let group = weight.problem.group() / block;
        let most = (most_codes(bits) / block).min(group);
        let blocks = (1..=most)
            .rev()
            .find(|blocks| group.is_multiple_of(*blocks))?;
        let chunk = blocks * block;
        let mut made = Digits {
            rows,
            digits,
            blocks,
            words: vec![0; k / 4 * digits * rows],
            scales: vec![0.0; k / chunk * rows],
            sums: vec![0.0; groups * rows],
            values: vec![0.0; if n.is_multiple_of(16) { 0 } else { x.len() }],
        };
        // The largest integer all of whose digits are bytes.
        let largest = match digits {
            1 => 127.0f32,
            _ => (127 << 16) as f32,
        };
        let shifts: Vec<u32> = (0..vectors(bits)).map(|v| shift(bits, digits, v)).collect();
        let rounded = shifts.iter().any(|shift| *shift > 0);
        let mut integers = vec![0i32; chunk];
        for (row, x) in x.chunks_exact(k).enumerate() {
            let values = made.values.get_mut(row * k..(row + 1) * k);
            let values = values.unwrap_or_default();
            for (at, x) in x.chunks_exact(chunk).enumerate() {
                let (mut size, mut finite) = (0f32, true);
                for x in x {
                    size = size.max(x.abs());
                    finite &= x.is_finite();
                }
                if !finite || (size > 0.0 && size < 1e-30) {
                    return None;
                }
                let scale = size / largest;
                let inverse = if size > 0.0 { largest / size } else { 0.0 };
                made.scales[at * rows + row] = scale;
                for (i, (integer, x)) in integers.iter_mut().zip(x).enumerate() {
                    // Every second code is in a vector whose digits are divided by four.
                    let coarse = rounded && i % 2 == 1;
                    let scaled = x * inverse * if coarse { 0.25 } else { 1.0 };
                    // SAFETY: it is at most `largest`, and a half.
                    let nearest: i32 =
                        unsafe { (scaled + 0.5f32.copysign(scaled)).to_int_unchecked() };
                    *integer = nearest * if coarse { 4 } else { 1 };
                }
                let sum: i32 = integers.iter().sum();
                for (value, integer) in values.iter_mut().skip(at * chunk).zip(&integers) {
                    *value = *integer as f32 * scale;
                }
                for (within, integers) in integers.chunks_exact(block).enumerate() {
                    for (vector, shift) in shifts.iter().enumerate() {
                        let four: [u32; 4] = std::array::from_fn(|byte| {
                            // Bytes of this are the digits, each with 128 more.
                            ((integers[code(bits, vector, byte)] >> shift) + 0x0080_8080) as u32
                        });
                        let first = (at * blocks + within) * vectors(bits) + vector;
                        for digit in 0..digits {
                            let [a, b, c, d] = four.map(|integer| integer >> (8 * digit) & 0xff);
                            let word = (first * digits + digit) * rows + row;
                            made.words[word] = (a | b << 8 | c << 16 | d << 24) ^ 0x8080_8080;
                        }
                    }
                }
                made.sums[at / (group / blocks) * rows + row] += sum as f32 * scale;
            }
        }
        Some(made)
    }
}
