//! The dense weight of a packed one, and its gradient by step sizes and zero points.

use super::level::Level;
use super::matmul::reduce;
use super::parallel::{self, Shared};
use super::tile::{self, Values};
use super::weight::Weight;
use crate::problem::Problem;

/// Writes the dense weight, `[k, n]`.
pub(super) fn dequantize(level: Level, weight: &Weight, w: &mut [f32]) {
    let (Problem { k, n, .. }, unit) = (weight.problem, weight.block().fields);
    let threads = parallel::threads(k * n);
    let (parts, out) = (4 * threads, Shared::new(w));
    parallel::each(parts, threads, |at| {
        let rows = parallel::part(k, unit, parts, at);
        let first = out.offset(rows.start * n);
        tile::unpack(level, weight, rows, 0..n, Values::Weight, (first, n));
    });
}

/// Gradients by step sizes and zero points, `[g, n]`, from the gradient of the dense weight. Both must be zeros before.
pub(super) fn dequantize_backward(
    level: Level,
    weight: &Weight,
    grad: &[f32],
    ds: &mut [f32],
    dz: &mut [f32],
) {
    /// Columns of a task: centered codes of one block of rows stay in the first cache.
    const COLUMNS: usize = 128;
    let (Problem { k, n, .. }, block) = (weight.problem, weight.block().fields);
    let (ds, dz) = (Shared::new(ds), Shared::new(dz));
    let group = weight.problem.group();
    let threads = parallel::threads(k * n);
    let parts = n.div_ceil(COLUMNS);
    parallel::each(parts, threads, |at| {
        let columns = parallel::part(n, 16, parts, at);
        let mut centered = vec![0.0; block * columns.len()];
        let to = Shared::new(&mut centered);
        for first in (0..k).step_by(block) {
            let rows = first..(first + block).min(k);
            let to = (to, columns.len());
            tile::unpack(
                level,
                weight,
                rows.clone(),
                columns.clone(),
                Values::Centered,
                to,
            );
            for (row, i) in rows.enumerate() {
                let dw = &grad[i * n + columns.start..i * n + columns.end];
                let centered = &centered[row * columns.len()..][..columns.len()];
                reduce(weight, i / group, &columns, (dw, centered), (ds, dz));
            }
        }
    });
}
