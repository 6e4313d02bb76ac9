//! Products of matrices in bf16 with sums in f32, by `vdpbf16ps` (AVX-512 BF16).
//!
//! The instruction adds the products of two pairs of bf16 numbers to each sum: twice what one multiply-add in f32 does. Both
//! operands are rounded to bf16 and brought into *pairs* of neighbours along the sum ([`pack`]), and are multiplied from there
//! ([`kernel`]). Operands may be f32 or bf16 in memory, in rows or in columns. Rows of a left operand in bf16 have such pairs
//! already, and are mostly read where they are.
//!
//! Numbers below the smallest normal one count as 0.

mod kernel;
mod pack;
#[cfg(test)]
mod tests;

use super::level::Level;
use super::matrix::{Matrix, Operand, Out, Reading};
use super::parallel;
use burn::tensor::bf16;
use kernel::{Left, Part};
use pack::{Element, Order, pack};
use std::cell::RefCell;

/// Pairs along the sum that are multiplied at a time: a panel of 32 columns takes 32 KiB, and stays in a core's first cache.
const PAIRS: usize = 256;

/// Rows of the left operand that are packed at a time: 96 KiB. A multiple of the kernel's rows and of a vector.
const ROWS: usize = 96;

/// Columns of a panel of the right operand: two vectors.
const COLUMNS: usize = 32;

/// Columns that are packed at a time: 512 KiB, which stay in a core's second cache while all rows are multiplied by them. Rows are
/// packed again for each.
const BLOCK: usize = 16 * COLUMNS;

/// The fewest rows and columns of a thread.
const SIDE: usize = 96;

/// Whether the CPU has the instruction, and the level allows it.
pub(super) fn available(level: Level) -> bool {
    level.name() == "avx512"
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

thread_local! {
    /// The operands in pairs.
    static BUFFERS: RefCell<[Vec<u32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// The passes of a product whose sums are so long.
pub(super) fn passes(k: usize) -> usize {
    k.div_ceil(2 * PAIRS).max(1)
}

/// `out [m, n] (+)= scale * left [m, k] * right [k, n]`, on this thread.
///
/// Requires [`available`], and neighbours of each operand in its rows or in its columns.
///
/// # Safety
///
/// The matrices have these sizes, and nobody else touches `out`. It has sums if there is something to add to, or if there is more
/// than one of the [`passes`].
pub(super) unsafe fn multiply(
    sizes: [usize; 3],
    out: Out,
    add: bool,
    scale: f32,
    left: Operand,
    right: Operand,
) {
    use Operand::{Bf16, F32};
    // SAFETY: as of the caller.
    unsafe {
        match (left, right) {
            (F32(left), F32(right)) => multiply_of(sizes, out, add, scale, left, right),
            (F32(left), Bf16(right)) => multiply_of(sizes, out, add, scale, left, right),
            (Bf16(left), F32(right)) => multiply_of(sizes, out, add, scale, left, right),
            (Bf16(left), Bf16(right)) => multiply_of(sizes, out, add, scale, left, right),
        }
    }
}

/// [`multiply`] for operands of these types.
///
/// # Safety
///
/// As there.
unsafe fn multiply_of<L: Element, R: Element>(
    [m, n, k]: [usize; 3],
    out: Out,
    add: bool,
    scale: f32,
    left: Matrix<L>,
    right: Matrix<R>,
) {
    if m == 0 || n == 0 {
        return;
    }
    BUFFERS.with_borrow_mut(|[lefts, rights]| {
        for first in (0..n).step_by(BLOCK) {
            let columns = (n - first).min(BLOCK);
            let panels = columns.div_ceil(COLUMNS);
            let mut depth = 0;
            // Once without any pairs, too: then there are zeros to write.
            while depth == 0 || depth < k {
                let len = (k - depth).min(2 * PAIRS);
                let pairs = len.div_ceil(2);
                let out = out.in_pass(depth / (2 * PAIRS), passes(k));
                grow(rights, panels * pairs * COLUMNS);
                for panel in 0..panels {
                    let lines = (columns - panel * COLUMNS).min(COLUMNS);
                    let from = right.from(depth, first + panel * COLUMNS).first;
                    let to = &mut rights[panel * pairs * COLUMNS..][..pairs * COLUMNS];
                    // SAFETY: these lines and numbers of the operand are in bounds, as the caller says.
                    unsafe { pack::<R, COLUMNS>(from, Order::right(&right), [lines, len], to) };
                }
                for row in (0..m).step_by(ROWS) {
                    let rows = (m - row).min(ROWS);
                    let from = left.from(row, depth).first;
                    // SAFETY: as above.
                    unsafe {
                        let left = if let Some(first) = in_place(&left, from, len) {
                            Left::InPlace(first, left.row)
                        } else {
                            grow(lefts, pairs * ROWS);
                            pack::<L, ROWS>(from, Order::left(&left), [rows, len], lefts);
                            Left::Packed(lefts.as_ptr())
                        };
                        for panel in 0..panels {
                            let column = panel * COLUMNS;
                            kernel::run(Part {
                                left,
                                right: rights.as_ptr().add(panel * pairs * COLUMNS),
                                pairs,
                                rows,
                                columns: (columns - column).min(COLUMNS),
                                out: out.from(row, first + column),
                                add: add || depth > 0,
                                scale,
                            });
                        }
                    }
                }
                depth += len.max(1);
            }
        }
    });
}

/// The left operand's numbers from `first` on, `len` of a row, if the kernel can read them where they are, and well so.
fn in_place<T: Element>(left: &Matrix<T>, first: *const T, len: usize) -> Option<*const bf16> {
    // Rows so far apart would all lie in the same few lines of the first cache.
    const PAGE: usize = 4096 / size_of::<bf16>();
    let good = left.column == 1 && len.is_multiple_of(2) && !left.row.is_multiple_of(PAGE);
    T::in_bf16(first).filter(|_| good)
}

/// `out [m, n] = left [m, k] * right [k, n]`, on all threads.
///
/// # Safety
///
/// As of [`multiply`]; the operands may be read from any thread.
pub(super) unsafe fn multiply_all([m, n, k]: [usize; 3], out: Out, left: Operand, right: Operand) {
    let threads = parallel::threads(m * n * k);
    let [rows, columns] = split(threads, [m, n]);
    let (left, right) = (Reading(left), Reading(right));
    parallel::each(rows * columns, threads, |at| {
        let (left, right) = (left.get(), right.get());
        let row = parallel::part(m, 1, rows, at / columns);
        let column = parallel::part(n, COLUMNS, columns, at % columns);
        let (left, right) = (left.from(row.start, 0), right.from(0, column.start));
        let to = out.from(row.start, column.start);
        // SAFETY: as of the caller; each task has its own part of the result.
        unsafe { multiply([row.len(), column.len(), k], to, false, 1.0, left, right) };
    });
}

/// Parts of the rows and of the columns, at least one for each thread if they are not too small.
fn split(threads: usize, [m, n]: [usize; 2]) -> [usize; 2] {
    let mut parts = [1, 1];
    while parts[0] * parts[1] < threads {
        let sides = [m / parts[0], n / parts[1]];
        let longer = usize::from(sides[1] > sides[0]);
        if sides[longer] < 2 * SIDE {
            break;
        }
        parts[longer] *= 2;
    }
    parts
}

fn grow(buffer: &mut Vec<u32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
}
