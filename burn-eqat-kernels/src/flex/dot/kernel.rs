//! The kernel, generic over registers.

use super::super::fields::{block_fields, block_words};
use super::super::parallel::Shared;
use super::super::weight::{Weight, Zeros};
use super::digits::Digits;
use super::layout::{bytes_of, cut, vectors};
use super::registers::Registers;
use crate::Bits;
use crate::problem::Problem;
use std::marker::PhantomData;
use std::ops::Range;

/// A range of columns of a matmul.
pub(super) struct Task<'a> {
    pub weight: &'a Weight<'a>,
    pub input: &'a Digits,
    pub columns: Range<usize>,
    /// The result from the input's first row on.
    pub y: Shared,
}

/// A task on the registers `R`.
pub(super) struct Run<'a, R> {
    task: Task<'a>,
    registers: PhantomData<R>,
}

impl<'a, R: Registers> Run<'a, R> {
    /// # Safety
    ///
    /// The CPU has the instructions of `R`.
    #[inline(always)]
    pub unsafe fn run(task: Task<'a>) {
        let (bits, input) = (task.weight.problem.bits, task.input);
        let run = Run::<R> {
            task,
            registers: PhantomData,
        };
        // SAFETY: as of the caller.
        unsafe {
            match (bits, input.digits, input.rows) {
                (Bits::Two, 1, 1) => run.pass::<2, 1, 1, 2>(),
                (Bits::Two, 1, 2) => run.pass::<2, 1, 2, 2>(),
                (Bits::Two, 1, 4) => run.pass::<2, 1, 4, 2>(),
                (Bits::Two, 1, 8) => run.pass::<2, 1, 8, 1>(),
                (Bits::Two, 3, 1) => run.pass::<2, 3, 1, 2>(),
                (Bits::Two, 3, 2) => run.pass::<2, 3, 2, 1>(),
                (Bits::Two, 3, 4) => run.pass::<2, 3, 4, 1>(),
                (Bits::Three, 1, 1) => run.pass::<3, 1, 1, 1>(),
                (Bits::Three, 1, 2) => run.pass::<3, 1, 2, 1>(),
                (Bits::Three, 1, 4) => run.pass::<3, 1, 4, 1>(),
                (Bits::Three, 1, 8) => run.pass::<3, 1, 8, 1>(),
                (Bits::Three, 3, 1) => run.pass::<3, 3, 1, 1>(),
                (Bits::Three, 3, 2) => run.pass::<3, 3, 2, 1>(),
                (Bits::Three, 3, 4) => run.pass::<3, 3, 4, 1>(),
                (Bits::Four, 1, 1) => run.pass::<4, 1, 1, 1>(),
                (Bits::Four, 1, 2) => run.pass::<4, 1, 2, 2>(),
                (Bits::Four, 1, 4) => run.pass::<4, 1, 4, 2>(),
                (Bits::Four, 1, 8) => run.pass::<4, 1, 8, 1>(),
                (Bits::Four, 3, 1) => run.pass::<4, 3, 1, 2>(),
                (Bits::Four, 3, 2) => run.pass::<4, 3, 2, 1>(),
                (Bits::Four, 3, 4) => run.pass::<4, 3, 4, 1>(),
                (Bits::Eight, 3, 1) => run.pass::<8, 3, 1, 1>(),
                (Bits::Eight, 3, 2) => run.pass::<8, 3, 2, 1>(),
                (Bits::Eight, 3, 4) => run.pass::<8, 3, 4, 1>(),
                other => unreachable!("{other:?} is not taken by integer products"),
            }
        }
    }

    /// Multiplies all groups of all columns, `VECTORS` vectors of columns at a time.
    #[inline(always)]
    unsafe fn pass<
        const BITS: usize,
        const DIGITS: usize,
        const ROWS: usize,
        const VECTORS: usize,
    >(
        &self,
    ) {
        let Task {
            weight,
            input,
            columns,
            y,
        } = &self.task;
        let Problem {
            n, groups, bits, ..
        } = weight.problem;
        let chunks = weight.problem.group() / block_fields(BITS) / input.blocks;
        for group in 0..groups {
            // SAFETY: groups and columns are in bounds; instructions as of the caller.
            unsafe {
                let part = Group::<R, BITS, DIGITS, ROWS> {
                    n,
                    chunks,
                    blocks: input.blocks,
                    words: (weight.codes.as_ptr())
                        .add(group * chunks * input.blocks * block_words(BITS) * n),
                    s: weight.scales.as_ptr().add(group * n),
                    z: match weight.zero_points {
                        Zeros::Numbers(z) => Ok(z.as_ptr().add(group * n)),
                        Zeros::Packed(words) => Err(words.as_ptr().add(group * bits.words(n))),
                    },
                    x: (input.words.as_ptr())
                        .add(group * chunks * input.blocks * vectors(BITS) * DIGITS * ROWS),
                    scales: input.scales.as_ptr().add(group * chunks * ROWS),
                    sums: input.sums.as_ptr().add(group * ROWS),
                    y: y.at(0),
                    registers: PhantomData,
                };
                let mut column = columns.start;
                while column + VECTORS * R::LANES <= columns.end {
                    part.columns::<VECTORS>(column);
                    column += VECTORS * R::LANES;
                }
                while column + R::LANES <= columns.end {
                    part.columns::<1>(column);
                    column += R::LANES;
                }
                for column in column..columns.end {
                    self.scalar(group, column);
                }
            }
        }
    }

    fn scalar(&self, group: usize, column: usize) {
        let Task {
            weight, input, y, ..
        } = &self.task;
        let Problem { k, n, .. } = weight.problem;
        let in_group = weight.problem.group();
        let (s, z) = (weight.scale(group, column), weight.zero(group, column));
        for row in 0..input.rows {
            let mut sum = 0.0;
            for i in group * in_group..(group + 1) * in_group {
                let level = weight.code(i, column) as f32 - z;
                sum += level * input.values[row * k + i];
            }
            // SAFETY: the column is this task's.
            unsafe { *y.at(row * n + column) += s * sum };
        }
    }
}

/// A group of rows, by the beginnings of its parts.
struct Group<R, const BITS: usize, const DIGITS: usize, const ROWS: usize> {
    n: usize,
    chunks: usize,
    /// Of a chunk.
    blocks: usize,
    words: *const u32,
    s: *const f32,
    /// Zero points as numbers, or in words.
    z: Result<*const f32, *const u32>,
    x: *const u32,
    scales: *const f32,
    sums: *const f32,
    y: *mut f32,
    registers: PhantomData<R>,
}

impl<R: Registers, const BITS: usize, const DIGITS: usize, const ROWS: usize>
    Group<R, BITS, DIGITS, ROWS>
{
    /// Adds the group's part to `V` vectors of columns.
    ///
    /// # Safety
    ///
    /// The columns are in bounds, and the CPU has the instructions.
    // No closures in here: they would not have the registers' instructions.
    #[allow(clippy::needless_range_loop)] // indices of several arrays
    #[inline(always)]
    unsafe fn columns<const V: usize>(&self, column: usize) {
        // SAFETY: as of the caller.
        unsafe {
            let (mut words, mut x) = (self.words.add(column), self.x);
            let mut sums = [[R::splat_float(0.0); ROWS]; V];
            for chunk in 0..self.chunks {
                let mut dots = [[[R::none(); DIGITS]; ROWS]; V];
                for _ in 0..self.blocks {
                    let mut blocks = [[R::splat(0); 4]; V];
                    for (v, block) in blocks.iter_mut().enumerate() {
                        let mut loaded = [R::splat(0); 3];
                        for (i, word) in loaded.iter_mut().enumerate().take(block_words(BITS)) {
                            *word = R::load(words.add(i * self.n + v * R::LANES));
                        }
                        *block = cut::<R, BITS>(loaded);
                    }
                    for vector in 0..vectors(BITS) {
                        let mut codes = [R::splat(0); V];
                        for v in 0..V {
                            codes[v] = bytes_of::<R, BITS, DIGITS>(&blocks[v], vector);
                        }
                        for digit in 0..DIGITS {
                            for row in 0..ROWS {
                                let at = (digit * vectors(BITS) + vector) * ROWS + row;
                                let x = R::splat(*x.add(at));
                                for v in 0..V {
                                    let dot = &mut dots[v][row][digit];
                                    *dot = R::dot(*dot, codes[v], x);
                                }
                            }
                        }
                    }
                    x = x.add(vectors(BITS) * DIGITS * ROWS);
                    words = words.add(block_words(BITS) * self.n);
                }
                for row in 0..ROWS {
                    let scale = R::splat_float(*self.scales.add(chunk * ROWS + row));
                    for v in 0..V {
                        let value = value::<R, BITS, DIGITS>(dots[v][row]);
                        sums[v][row] = R::mul_add(value, scale, sums[v][row]);
                    }
                }
            }
            for (v, sums) in sums.iter().enumerate() {
                let column = column + v * R::LANES;
                let s = R::load_floats(self.s.add(column));
                let z = match self.z {
                    Ok(z) => R::load_floats(z.add(column)),
                    Err(z) => {
                        let low = fields::<BITS>(z, column);
                        let high = if R::LANES > 8 {
                            fields::<BITS>(z, column + 8)
                        } else {
                            0
                        };
                        R::fields::<BITS>(low, high)
                    }
                };
                for (row, sum) in sums.iter().enumerate() {
                    let x = R::splat_float(*self.sums.add(row));
                    let sum = R::mul_sub_from(z, x, *sum);
                    let y = self.y.add(row * self.n + column);
                    R::store_floats(y, R::mul_add(sum, s, R::load_floats(y)));
                }
            }
        }
    }
}

/// The fields of eight columns of a row of words, from the low bit up.
///
/// # Safety
///
/// The row has the columns, of which the first is a multiple of eight.
#[inline(always)]
unsafe fn fields<const BITS: usize>(row: *const u32, column: usize) -> u64 {
    let bit = column * BITS;
    // SAFETY: as of the caller; the next word is there if fields are in it.
    unsafe {
        let word = u64::from(*row.add(bit / 32));
        let next = match bit % 32 + 8 * BITS > 32 {
            true => u64::from(*row.add(bit / 32 + 1)),
            false => 0,
        };
        (word | next << 32) >> (bit % 32)
    }
}

/// Converts sums of digits to floats.
#[inline(always)]
unsafe fn value<R: Registers, const BITS: usize, const DIGITS: usize>(
    dots: [R::Sums; DIGITS],
) -> R::Floats {
    // SAFETY: as of the caller.
    unsafe {
        let low = R::total(dots[0]);
        if DIGITS == 1 {
            return R::floats(low);
        }
        // The lower digits' sums fit an integer together; those of 64 two-bit codes all do.
        let low = R::add(low, R::shl::<8>(R::total(dots[1])));
        let high = R::total(dots[2 % DIGITS]);
        if BITS == 2 {
            return R::floats(R::add(low, R::shl::<16>(high)));
        }
        R::mul_add(R::floats(high), R::splat_float(65536.0), R::floats(low))
    }
}
