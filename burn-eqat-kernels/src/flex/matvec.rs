//! Matmuls of few rows in f32: the codes of each word become floats in registers, and every word is
//! read once.
//!
//! A code is not shifted down in its word, so it is multiplied by a power of two. The input is divided by that power
//! instead. Each vector of codes takes a mask, a conversion and a multiply-add. Step sizes and zero points
//! are applied once a group: `y += s (sum q x - z sum x)`.

use super::fields::{self, block_fields, block_words, scaled_shift, with_bits};
use super::level::Level;
use super::parallel::{self, Shared};
use super::weight::Weight;
use crate::problem::Problem;
use macerator::{Scalar, Simd, Vector, WithSimd, vload_unaligned, vstore_unaligned};
use std::ops::Range;

/// The most rows of one pass over the words.
const MOST_ROWS: usize = 8;

/// Columns of the result that a pass covers before it goes on along `k`, so that its sums stay in the first
/// cache.
const COLUMNS: usize = 2048;

/// `y [m, n] = x [m, k] W + y`, where `y` has the bias or zeros before. No block of words may lie across two
/// groups.
pub(super) fn forward(level: Level, weight: &Weight, x: &[f32], y: &mut [f32]) {
    let Problem { m, k, n, .. } = weight.problem;
    let y = Shared::new(y);
    let mut first = 0;
    while first < m {
        // The largest power of two among the rows that are left.
        let rows = 1 << (m - first).min(MOST_ROWS).ilog2();
        let input = Input::new(weight, &x[first * k..(first + rows) * k], rows);
        let threads = parallel::threads(rows * k * n);
        let tasks = if threads == 1 {
            n.div_ceil(COLUMNS)
        } else {
            n.div_ceil(COLUMNS)
                .next_multiple_of(threads)
                .min(n.div_ceil(64))
        };
        parallel::each(tasks, threads, |at| {
            let columns = parallel::part(n, 64, tasks, at);
            let y = Shared::offset(y, first * n);
            run(level, weight, &input, rows, columns, y);
        });
        first += rows;
    }
}

/// Rows of the input, prepared for the kernel.
struct Input {
    /// `[k, rows]`, divided by the power of two that its code is multiplied by.
    scaled: Vec<f32>,
    /// Sums over groups, `[groups, rows]`.
    sums: Vec<f32>,
}

impl Input {
    fn new(weight: &Weight, x: &[f32], rows: usize) -> Self {
        let Problem { k, groups, .. } = weight.problem;
        let (group, block) = (weight.problem.group(), weight.block());
        let factors: Vec<f32> = (0..block.fields)
            .map(|i| (-(scaled_shift(block.bits, i) as f32)).exp2())
            .collect();
        let mut scaled = vec![0.0; k * rows];
        let mut sums = vec![0.0; groups * rows];
        for (row, x) in x.chunks_exact(k).enumerate() {
            for (i, x) in x.iter().enumerate() {
                scaled[i * rows + row] = x * factors[i % block.fields];
            }
            for (at, x) in x.chunks_exact(group).enumerate() {
                sums[at * rows + row] = x.iter().sum();
            }
        }
        Input { scaled, sums }
    }
}

fn run(
    level: Level,
    weight: &Weight,
    input: &Input,
    rows: usize,
    columns: Range<usize>,
    y: Shared,
) {
    macro_rules! pass {
        ($bits:ident, $rows:literal, $sums:literal, $vectors:literal) => {
            level.run(Pass::<$bits, $rows, $sums, $vectors> {
                weight,
                input,
                columns,
                y,
            })
        };
    }
    // Enough independent sums to hide the latency of a multiply-add, but no more than there are registers.
    with_bits!(weight.problem.bits, BITS => match rows {
        1 => pass!(BITS, 1, 2, 4),
        2 => pass!(BITS, 2, 2, 4),
        4 => pass!(BITS, 4, 4, 2),
        _ => pass!(BITS, 8, 8, 1),
    })
}

/// A pass over columns with `ROWS` rows of the input; `SUMS` sums for each of `VECTORS` vectors of
/// columns (one for each row, or two for a single row).
struct Pass<'a, const BITS: usize, const ROWS: usize, const SUMS: usize, const VECTORS: usize> {
    weight: &'a Weight<'a>,
    input: &'a Input,
    columns: Range<usize>,
    y: Shared,
}

impl<const BITS: usize, const ROWS: usize, const SUMS: usize, const VECTORS: usize> WithSimd
    for Pass<'_, BITS, ROWS, SUMS, VECTORS>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let lanes = S::lanes32();
        for group in 0..self.weight.problem.groups {
            let mut column = self.columns.start;
            // SAFETY: the columns are in bounds.
            unsafe {
                while column + VECTORS * lanes <= self.columns.end {
                    self.group::<S, VECTORS>(group, column);
                    column += VECTORS * lanes;
                }
                while column + lanes <= self.columns.end {
                    self.group::<S, 1>(group, column);
                    column += lanes;
                }
            }
            for column in column..self.columns.end {
                self.scalar(group, column);
            }
        }
    }
}

impl<const BITS: usize, const ROWS: usize, const SUMS: usize, const VECTORS: usize>
    Pass<'_, BITS, ROWS, SUMS, VECTORS>
{
    /// Adds a group's part to `V` vectors of columns.
    #[inline(always)]
    unsafe fn group<S: Simd, const V: usize>(&self, group: usize, column: usize) {
        let lanes = S::lanes32();
        let blocks = self.weight.problem.group() / block_fields(BITS);
        let zero = 0f32.splat::<S>();
        let mut sums = [[zero; SUMS]; V];
        // SAFETY: groups and columns are in bounds.
        unsafe {
            for block in group * blocks..(group + 1) * blocks {
                // No closures: they would not be compiled for this level.
                let zero = 0u32.splat::<S>();
                let (mut words, mut high) = ([[zero; 3]; V], [[zero; 3]; V]);
                for v in 0..V {
                    words[v] =
                        fields::load_block::<S, BITS>(self.weight, block, column + v * lanes);
                    for i in 0..block_words(BITS) {
                        high[v][i] = words[v][i] >> 16;
                    }
                }
                let x = self.input.scaled.as_ptr();
                let x = x.add(block * block_fields(BITS) * ROWS);
                for field in 0..block_fields(BITS) {
                    let mut codes = [0f32.splat::<S>(); V];
                    for v in 0..V {
                        codes[v] = fields::scaled_code::<S, BITS>(&words[v], &high[v], field);
                    }
                    for row in 0..ROWS {
                        let x: Vector<S, f32> = (*x.add(field * ROWS + row)).splat();
                        for v in 0..V {
                            let sum = &mut sums[v][(row + field * ROWS) % SUMS];
                            *sum = codes[v].mul_add(x, *sum);
                        }
                    }
                }
            }
            for (v, sums) in sums.iter().enumerate() {
                let column = column + v * lanes;
                let at = group * self.weight.problem.n + column;
                let s: Vector<S, f32> = vload_unaligned(self.weight.scales.as_ptr().add(at));
                let z = fields::zeros::<S, BITS>(self.weight, group, column);
                for row in 0..ROWS {
                    let mut sum = sums[row];
                    for more in (row + ROWS..SUMS).step_by(ROWS) {
                        sum += sums[more];
                    }
                    let x: Vector<S, f32> = self.input.sums[group * ROWS + row].splat();
                    let y = self.y.at(row * self.weight.problem.n + column);
                    let part = (sum - z * x).mul_add(s, vload_unaligned(y));
                    vstore_unaligned(y, part);
                }
            }
        }
    }

    fn scalar(&self, group: usize, column: usize) {
        let Problem { n, .. } = self.weight.problem;
        let in_group = self.weight.problem.group();
        let (s, z) = (
            self.weight.scale(group, column),
            self.weight.zero(group, column),
        );
        for row in 0..ROWS {
            let mut sum = 0.0;
            for i in group * in_group..(group + 1) * in_group {
                let scaled = self.input.scaled[i * ROWS + row];
                let power = (1u32 << scaled_shift(BITS, i % block_fields(BITS))) as f32;
                sum += self.weight.code(i, column) as f32 * (scaled * power);
            }
            let part = s * (sum - z * self.input.sums[group * ROWS + row]);
            // SAFETY: the column is this task's.
            unsafe { *self.y.at(row * n + column) += part };
        }
    }
}
