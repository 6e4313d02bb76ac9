//! The kernel: twelve rows by two vectors of columns, whose sums are in registers.

use super::{COLUMNS, ROWS};
use burn::tensor::bf16;
use std::arch::x86_64::*;

/// The most rows at a time: 24 sums, which hide the latency of an instruction, and leave registers for the operands.
const TILE: usize = 12;

/// Numbers of a vector.
const LANES: usize = 16;

/// Where the pairs of the left operand are.
#[derive(Clone, Copy)]
pub(super) enum Left {
    /// `[pairs, ROWS]`.
    Packed(*const u32),
    /// Where the operand is in memory: numbers in bf16, an even number of them in a row, and rows so far apart.
    InPlace(*const bf16, usize),
}

/// A part of a product: some rows by at most a panel of columns.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub left: Left,
    /// `[pairs, COLUMNS]`.
    pub right: *const u32,
    pub pairs: usize,
    pub rows: usize,
    pub columns: usize,
    pub out: *mut f32,
    pub out_row: usize,
    /// Whether to add to what is there.
    pub add: bool,
    pub scale: f32,
}

/// Multiplies a part.
///
/// # Safety
///
/// The CPU has AVX-512 BF16, the operands are as told, and the part of the result is nobody else's.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn run(part: Part) {
    // Tiles of about the same size: the few rows of a rest would not hide the latency.
    let tiles = part.rows.div_ceil(TILE);
    for tile in 0..tiles {
        let row = part.rows * tile / tiles;
        let rows = part.rows * (tile + 1) / tiles - row;
        // SAFETY: as of the caller; rows and columns are in bounds.
        unsafe {
            if part.columns > LANES {
                some_rows::<2>(&part, row, rows);
            } else {
                some_rows::<1>(&part, row, rows);
            }
        }
    }
}

/// A tile of so many rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn some_rows<const VECTORS: usize>(part: &Part, row: usize, rows: usize) {
    macro_rules! by_rows {
        ($($count:literal)*) => {
            match rows {
                // SAFETY: as of the caller.
                $($count => unsafe {
                    match part.left {
                        Left::Packed(left) => {
                            tile::<$count, VECTORS, false>(part, row, left.add(row), 0)
                        }
                        Left::InPlace(left, stride) => {
                            let left = left.add(row * stride).cast();
                            tile::<$count, VECTORS, true>(part, row, left, 2 * stride)
                        }
                    }
                },)*
                _ => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12)
}

/// The left operand's first pair is at `left`, and in place its rows are `stride` bytes apart.
#[allow(clippy::needless_range_loop)] // indices of several arrays
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile<const COUNT: usize, const VECTORS: usize, const IN_PLACE: bool>(
    part: &Part,
    row: usize,
    mut left: *const u32,
    stride: usize,
) {
    // No closures in here: they would not have the instructions.
    // SAFETY: as of the callers.
    unsafe {
        let (stride, next) = if IN_PLACE { (stride, 1) } else { (4, ROWS) };
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; COUNT];
        let mut right = part.right;
        for _ in 0..part.pairs {
            let mut columns = [_mm512_setzero_si512(); VECTORS];
            for vector in 0..VECTORS {
                columns[vector] = _mm512_loadu_si512(right.add(vector * LANES).cast());
            }
            for row in 0..COUNT {
                let pair = left.byte_add(row * stride).read_unaligned();
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(pair as i32));
                for vector in 0..VECTORS {
                    let w: __m512bh = std::mem::transmute(columns[vector]);
                    sums[row][vector] = _mm512_dpbf16_ps(sums[row][vector], x, w);
                }
            }
            left = left.add(next);
            right = right.add(COLUMNS);
        }
        let scale = _mm512_set1_ps(part.scale);
        for (i, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                let columns = part.columns - vector * LANES;
                let mask = u16::MAX >> (LANES - columns.min(LANES));
                let out = part.out.add((row + i) * part.out_row + vector * LANES);
                let sum = if part.add {
                    _mm512_fmadd_ps(*sum, scale, _mm512_maskz_loadu_ps(mask, out))
                } else {
                    _mm512_mul_ps(*sum, scale)
                };
                _mm512_mask_storeu_ps(out, mask, sum);
            }
        }
    }
}
