//! The kernel: twelve rows by two vectors of columns, whose sums are in registers.

use super::super::matrix::Out;
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
    pub out: Out,
    /// Whether to add to what is there.
    pub add: bool,
    pub scale: f32,
}

/// Multiplies a part.
///
/// # Safety
///
/// The CPU has AVX-512 BF16, the operands are as told, and the part of the result is nobody else's.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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

/// The body for each number below a count that is known when it is compiled, and at most [`TILE`], one after the other: sums whose
/// indices are constants from the beginning stay in registers. (Those of a loop that is unrolled later are made, with zeros, in
/// memory.)
macro_rules! unrolled {
    ($at:ident < $count:ident => $body:block) => {
        unrolled!($at < $count => $body 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    ($at:ident < $count:ident => $body:block $($number:literal)*) => {
        $({
            const $at: usize = $number;
            if $at < $count $body
        })*
    };
}

/// The left operand's first pair is at `left`, and in place its rows are `stride` bytes apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; TILE];
        let mut right = part.right;
        for _ in 0..part.pairs {
            let mut columns = [_mm512_setzero_si512(); VECTORS];
            unrolled!(VECTOR < VECTORS => {
                columns[VECTOR] = _mm512_loadu_si512(right.add(VECTOR * LANES).cast());
            });
            unrolled!(ROW < COUNT => {
                let pair = left.byte_add(ROW * stride).read_unaligned();
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(pair as i32));
                unrolled!(VECTOR < VECTORS => {
                    let w: __m512bh = std::mem::transmute(columns[VECTOR]);
                    sums[ROW][VECTOR] = _mm512_dpbf16_ps(sums[ROW][VECTOR], x, w);
                });
            });
            left = left.add(next);
            right = right.add(COLUMNS);
        }
        unrolled!(ROW < COUNT => {
            unrolled!(VECTOR < VECTORS => {
                write(part, [row + ROW, VECTOR * LANES], sums[ROW][VECTOR]);
            });
        });
    }
}

/// Writes sums from a row and a column on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn write(part: &Part, [row, column]: [usize; 2], sums: __m512) {
    let mask = u16::MAX >> (LANES - (part.columns - column).min(LANES));
    let out = part.out.from(row, column);
    let scale = _mm512_set1_ps(part.scale);
    // SAFETY: as of the callers.
    unsafe {
        let sums = if part.add {
            _mm512_fmadd_ps(sums, scale, _mm512_maskz_loadu_ps(mask, out.sums))
        } else {
            _mm512_mul_ps(sums, scale)
        };
        if out.rounds() {
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(sums));
            _mm256_mask_storeu_epi16(out.rounded.cast(), mask, rounded);
        } else {
            _mm512_mask_storeu_ps(out.sums, mask, sums);
        }
    }
}
