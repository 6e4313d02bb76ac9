//! Matmuls of many rows. Tiles of the weight are unpacked into a buffer that fits a core's cache, and multiplied from
//! there. Memory never holds more of the dense weight, or of its gradient, than these tiles.

use super::buffers::with_buffers;
use super::level::Level;
use super::matrix::{Matrix, Operand, Out, Products, Reading};
use super::parallel::{self, Shared};
use super::tile::{self, Values};
use super::weight::Weight;
use crate::problem::Problem;
use std::ops::Range;

/// The most rows and columns of a tile, 256 KiB of f32.
const TILE_SIDE: usize = 256;

/// The longest side of a tile along which products in bf16 are summed. More than in f32, so that fewer of them have sums to keep.
#[cfg(target_arch = "x86_64")]
const BF16_DEPTH: usize = 512;

/// The fewest input rows of a thread, so that unpacking its tiles is a small part of the work.
const MIN_ROWS: usize = 64;

/// The fewest parts of `len` of at most [`TILE_SIDE`] each, cut at multiples of `unit`.
fn tiles(len: usize, unit: usize) -> usize {
    parts(TILE_SIDE, len, unit)
}

/// The fewest parts of `len` of at most `side` each, cut at multiples of `unit`.
fn parts(side: usize, len: usize, unit: usize) -> usize {
    let units = len.div_ceil(unit).max(1);
    let most = (side / unit).max(1);
    units.div_ceil(most)
}

/// The parts of a side of the weight along which a product is summed, each in a single pass.
fn depths(products: Products, len: usize, unit: usize) -> usize {
    let side = match products {
        Products::F32 => TILE_SIDE,
        #[cfg(target_arch = "x86_64")]
        Products::Bf16 => BF16_DEPTH,
    };
    parts(side, len, unit)
}

/// The passes of [`forward`].
pub(super) fn forward_passes(products: Products, problem: &Problem) -> usize {
    depths(products, problem.k, problem.block().fields)
}

/// The passes of [`input`].
pub(super) fn input_passes(products: Products, problem: &Problem) -> usize {
    depths(products, problem.n, 16)
}

/// The split of a matmul: `slabs` parts of the weight, and for each slab `chunks` of the input's rows if there are
/// more threads than slabs.
struct Split {
    threads: usize,
    slabs: usize,
    chunks: usize,
}

impl Split {
    /// The split of a weight along a side of length `len`, cut at multiples of `unit`.
    fn new(problem: &Problem, len: usize, unit: usize) -> Self {
        let threads = parallel::threads(problem.m * problem.k * problem.n);
        let slabs = tiles(len, unit).max(threads.min(len / unit.max(32)));
        let chunks = threads.div_ceil(slabs).min(problem.m / MIN_ROWS).max(1);
        Split {
            threads,
            slabs,
            chunks,
        }
    }

    /// Runs `task` for each slab of `len` and chunk of `m` rows.
    fn run(
        &self,
        (len, unit): (usize, usize),
        m: usize,
        task: impl Fn(Range<usize>, Range<usize>) + Send + Sync,
    ) {
        let Split {
            threads,
            slabs,
            chunks,
        } = *self;
        parallel::each(slabs * chunks, threads, |at| {
            let slab = parallel::part(len, unit, slabs, at / chunks);
            let rows = parallel::part(m, 1, chunks, at % chunks);
            if !slab.is_empty() && !rows.is_empty() {
                task(slab, rows);
            }
        });
    }
}

/// `y [m, n] (+)= x [m, k] W`. The input has whole rows.
///
/// # Safety
///
/// `y` has this size, nobody else touches it, and it has sums if it is added to or there are more [passes](forward_passes) than
/// one.
pub(super) unsafe fn forward(
    level: Level,
    products: Products,
    weight: &Weight,
    x: Operand,
    y: Out,
    add: bool,
) {
    let Problem { k, n, .. } = weight.problem;
    let x = Reading(x);
    let unit = weight.block().fields;
    let split = Split::new(&weight.problem, n, 16);
    split.run((n, 16), weight.problem.m, |columns, rows| {
        let parts = depths(products, k, unit);
        for at in 0..parts {
            let depth = parallel::part(k, unit, parts, at);
            with_buffers(depth.len() * columns.len(), |tile, _| {
                let to = (Shared::new(tile), columns.len());
                let (of, across) = (depth.clone(), columns.clone());
                tile::unpack(level, weight, of, across, Values::Weight, to);
                let left = x.get().from(rows.start, depth.start);
                let right = Matrix::rows(tile, columns.len());
                let sizes = [rows.len(), columns.len(), depth.len()];
                let out = y.from(rows.start, columns.start).in_pass(at, parts);
                // SAFETY: sizes are those of the matrices, and each task has columns or rows of its own.
                unsafe { products.multiply(sizes, out, add || at > 0, 1.0, left, right) };
            });
        }
    });
}

/// `dx [m, k] = grad [m, n] W^T`.
///
/// # Safety
///
/// As of [`forward`], of `dx` and [`input_passes`].
pub(super) unsafe fn input(
    level: Level,
    products: Products,
    weight: &Weight,
    grad: Operand,
    dx: Out,
) {
    let Problem { m, k, n, .. } = weight.problem;
    let grad = Reading(grad);
    let unit = weight.block().fields;
    Split::new(&weight.problem, k, unit).run((k, unit), m, |depth, rows| {
        let parts = depths(products, n, 16);
        for at in 0..parts {
            let columns = parallel::part(n, 16, parts, at);
            with_buffers(depth.len() * columns.len(), |tile, _| {
                let to = (Shared::new(tile), columns.len());
                let (of, across) = (depth.clone(), columns.clone());
                tile::unpack(level, weight, of, across, Values::Weight, to);
                let left = grad.get().from(rows.start, columns.start);
                let right = Matrix::rows(tile, columns.len()).transposed();
                let sizes = [rows.len(), depth.len(), columns.len()];
                let out = dx.from(rows.start, depth.start).in_pass(at, parts);
                // SAFETY: as in `forward`.
                unsafe { products.multiply(sizes, out, at > 0, 1.0, left, right) };
            });
        }
    });
}

/// `ds` and `dz [g, n]` from `grad [m, n]` and `x [m, k]`; both must be zeros before.
///
/// A tile of `x^T grad`, the gradient of the dense weight, is reduced over its groups at once.
pub(super) fn scale(
    level: Level,
    products: Products,
    weight: &Weight,
    x: Operand,
    grad: Operand,
    ds: &mut [f32],
    dz: &mut [f32],
) {
    let Problem { m, k, n, .. } = weight.problem;
    let (x, grad) = (Reading(x), Reading(grad));
    let (ds, dz) = (Shared::new(ds), Shared::new(dz));
    let (group, block) = (weight.problem.group(), weight.block().fields);
    let threads = parallel::threads(m * k * n);
    // A task has whole groups, so that no other task adds to their sums.
    let unit = lcm(group, block);
    let down = tiles(k, unit);
    let across = tiles(n, 16).max(threads.div_ceil(down).min(n.div_ceil(32)));
    parallel::each(down * across, threads, |at| {
        let rows = parallel::part(k, unit, down, at / across);
        let columns = parallel::part(n, 16, across, at % across);
        // Groups larger than a tile are taken in parts.
        let parts = tiles(rows.len(), block);
        for at in 0..parts {
            let part = parallel::part(rows.len(), block, parts, at);
            let part = rows.start + part.start..rows.start + part.end;
            let len = part.len() * columns.len();
            if len == 0 {
                continue;
            }
            with_buffers(len, |dw, centered| {
                let left = x.get().from(0, part.start).transposed();
                let right = grad.get().from(0, columns.start);
                let sizes = [part.len(), columns.len(), m];
                let out = Out::sums(dw.as_mut_ptr(), columns.len());
                // SAFETY: sizes are those of the matrices, and the buffer is this thread's.
                unsafe { products.multiply(sizes, out, false, 1.0, left, right) };
                let to = (Shared::new(centered), columns.len());
                let (of, across) = (part.clone(), columns.clone());
                tile::unpack(level, weight, of, across, Values::Centered, to);
                for (row, i) in part.clone().enumerate() {
                    let at = row * columns.len()..(row + 1) * columns.len();
                    reduce(
                        weight,
                        i / group,
                        &columns,
                        (&dw[at.clone()], &centered[at]),
                        (ds, dz),
                    );
                }
            });
        }
    });
}

/// Adds a row of the weight's gradient to the sums of its group: `ds += dw (q - z)`, `dz -= dw s`.
pub(super) fn reduce(
    weight: &Weight,
    group: usize,
    columns: &Range<usize>,
    (dw, centered): (&[f32], &[f32]),
    (ds, dz): (Shared, Shared),
) {
    let at = group * weight.problem.n + columns.start;
    let len = columns.len();
    let s = &weight.scales[at..at + len];
    // SAFETY: the caller has these columns of these groups for itself.
    let (ds, dz) = unsafe { (ds.part(at..at + len), dz.part(at..at + len)) };
    for i in 0..len {
        ds[i] += dw[i] * centered[i];
        dz[i] -= dw[i] * s[i];
    }
}

fn lcm(a: usize, b: usize) -> usize {
    a / crate::problem::gcd(a, b) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_at_most_a_tile_and_cover_the_whole() {
        for (len, unit) in [
            (1, 16),
            (192, 16),
            (256, 32),
            (257, 16),
            (4096, 4),
            (600, 600),
        ] {
            let parts = tiles(len, unit);
            let mut end = 0;
            for at in 0..parts {
                let part = parallel::part(len, unit, parts, at);
                assert_eq!(part.start, end);
                assert!(part.len() <= TILE_SIDE.max(unit), "{part:?}");
                end = part.end;
            }
            assert_eq!(end, len);
        }
    }
}
