//! Codes out of words as integers, and dense gradients into step sizes.

use super::level::Level;
use super::parallel::{self, Shared};
use super::product::reduce;
use super::tile::{self, Values};
use super::weight::Weight;
use crate::Bits;
use crate::problem::Problem;

/// Codes `[len, n]` of words that run along the rows.
pub(super) fn unpack(words: &[u32], bits: Bits, [len, n]: [usize; 2]) -> Vec<i32> {
    let mut codes = Vec::with_capacity(len * n);
    let b = bits.get();
    for i in 0..len {
        let (at, shift) = (i * b / 32, i * b % 32);
        let low = &words[at * n..][..n];
        match shift + b > 32 {
            false => codes.extend(low.iter().map(|w| (w >> shift & bits.max_code()) as i32)),
            true => {
                let both = low.iter().zip(&words[(at + 1) * n..][..n]);
                codes.extend(both.map(|(low, high)| {
                    ((low >> shift | high << (32 - shift)) & bits.max_code()) as i32
                }));
            }
        }
    }
    codes
}

/// Codes `[rows, len]` of words that run along the columns.
pub(super) fn unpack_columns(words: &[u32], bits: Bits, [rows, len]: [usize; 2]) -> Vec<i32> {
    let mut codes = Vec::with_capacity(rows * len);
    for row in 0..rows {
        let line = &words[row * bits.words(len)..][..bits.words(len)];
        codes.extend(unpack(line, bits, [len, 1]));
    }
    codes
}

/// The dense weight, `[k, n]`.
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

/// `ds`, `dz [g, n]` of a gradient of the dense weight; they are zeros before.
pub(super) fn dequantize_backward(
    level: Level,
    weight: &Weight,
    grad: &[f32],
    ds: &mut [f32],
    dz: &mut [f32],
) {
    /// Columns of a task: levels of one block of rows stay in the first cache.
    const COLUMNS: usize = 128;
    let (Problem { k, n, .. }, block) = (weight.problem, weight.block().fields);
    let (ds, dz) = (Shared::new(ds), Shared::new(dz));
    let group = weight.problem.group();
    let threads = parallel::threads(k * n);
    let parts = n.div_ceil(COLUMNS);
    parallel::each(parts, threads, |at| {
        let columns = parallel::part(n, 16, parts, at);
        let mut levels = vec![0.0; block * columns.len()];
        let to = Shared::new(&mut levels);
        for first in (0..k).step_by(block) {
            let rows = first..(first + block).min(k);
            let to = (to, columns.len());
            tile::unpack(
                level,
                weight,
                rows.clone(),
                columns.clone(),
                Values::Levels,
                to,
            );
            for (row, i) in rows.enumerate() {
                let dw = &grad[i * n + columns.start..i * n + columns.end];
                let levels = &levels[row * columns.len()..][..columns.len()];
                reduce(weight, i / group, &columns, (dw, levels), (ds, dz));
            }
        }
    });
}
