//! A packed weight in memory.

use crate::block::Block;
use crate::problem::Problem;

/// Codes, step sizes and zero points of a weight `[k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Weight<'a> {
    /// Sizes; `m` is that of the current matmul.
    pub problem: Problem,
    /// Codes, `[ceil(k * b / 32), n]`.
    pub codes: &'a [u32],
    /// Step sizes, `[g, n]`.
    pub scales: &'a [f32],
    /// Zero points.
    pub zero_points: Zeros<'a>,
}

/// Zero points, as numbers or in packed words.
#[derive(Clone, Copy)]
pub(super) enum Zeros<'a> {
    /// `[g, n]`.
    Numbers(&'a [f32]),
    /// Packed along the columns, `[g, ceil(n * b / 32)]`.
    Packed(&'a [u32]),
}

impl Weight<'_> {
    pub fn block(&self) -> Block {
        self.problem.block()
    }

    /// Word `row` of `column`; 0 behind the last row.
    #[inline(always)]
    pub fn word(&self, row: usize, column: usize) -> u32 {
        let at = row * self.problem.n + column;
        self.codes.get(at).copied().unwrap_or(0)
    }

    /// Code `[i, column]`.
    #[inline(always)]
    pub fn code(&self, i: usize, column: usize) -> u32 {
        let bits = self.problem.bits;
        field(|row| self.word(row, column), i, bits.get()) & bits.max_code()
    }

    /// Step size `[group, column]`.
    #[inline(always)]
    pub fn scale(&self, group: usize, column: usize) -> f32 {
        self.scales[group * self.problem.n + column]
    }

    /// Zero point `[group, column]`.
    #[inline(always)]
    pub fn zero(&self, group: usize, column: usize) -> f32 {
        let Problem { n, bits, .. } = self.problem;
        match self.zero_points {
            Zeros::Numbers(z) => z[group * n + column],
            Zeros::Packed(words) => {
                let row = &words[group * bits.words(n)..][..bits.words(n)];
                let word = |at: usize| row.get(at).copied().unwrap_or(0);
                (field(word, column, bits.get()) & bits.max_code()) as f32
            }
        }
    }

    /// The 32 bits from the zero point `[group, column]` on, if zero points are packed and that column begins
    /// at a byte.
    #[inline(always)]
    pub fn zero_bits(&self, words: &[u32], group: usize, column: usize) -> u32 {
        let Problem { n, bits, .. } = self.problem;
        let bit = column * bits.get();
        let at = group * bits.words(n) + bit / 32;
        let low = words[at] >> (bit % 32);
        match bit % 32 {
            0 => low,
            shift => low | words.get(at + 1).map_or(0, |high| high << (32 - shift)),
        }
    }
}

/// The 32 bits that begin with field `i` of a bit stream (its own bits first).
#[inline(always)]
fn field(word: impl Fn(usize) -> u32, i: usize, bits: usize) -> u32 {
    let (at, shift) = (i * bits / 32, i * bits % 32);
    if shift + bits > 32 {
        word(at) >> shift | word(at + 1) << (32 - shift)
    } else {
        word(at) >> shift
    }
}
