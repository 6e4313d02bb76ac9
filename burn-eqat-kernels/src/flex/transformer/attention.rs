//! Causal attention, one tile of positions of a head at a time. The weights of a tile stay in a core's cache; the
//! backward pass computes them again.

use super::super::buffers::with_buffers;
use super::super::level::Level;
use super::super::matrix::{Matrix, Out, Products};
use super::super::parallel::{self, Shared};
use super::elementwise::{Elementwise, each};
use super::heads::Heads;
use super::vectors::{dot, exp, load};
use macerator::{Scalar, Simd, Vector, WithSimd};
use std::ops::Range;

/// Positions of a tile.
const TILE_POSITIONS: usize = 64;

/// A tile of more rows than these has a part of its keys that the first half of its rows does not attend to, and that is left out.
const CORNER: usize = 32;

/// The operands of attention. The `positions` queries are at the last of the keys' positions. Query heads that share
/// a key head follow each other.
#[derive(Clone, Copy)]
pub(super) struct CausalAttention {
    pub q: Heads,
    pub k: Heads,
    pub v: Heads,
    pub window: Option<usize>,
    pub products: Products,
}

/// A tile: positions of a head, and the keys that any of them attends to.
struct PositionTile {
    batch: usize,
    head: usize,
    kv_head: usize,
    rows: Range<usize>,
    keys: Range<usize>,
    /// The index of the first row's own key.
    own: usize,
}

impl PositionTile {
    /// Rows and keys of the tile, in parts that leave out the second half's own keys for the first half of the rows.
    fn parts(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let (rows, keys) = (self.rows.len(), self.keys.len());
        let half = if rows > CORNER { rows / 2 } else { rows };
        let common = self.own + half;
        let corner = (half < rows).then_some((half..rows, common..keys));
        std::iter::once((0..rows, 0..common)).chain(corner)
    }
}

/// Gradients by queries, keys and values; the last two must be zeros before.
#[derive(Clone, Copy)]
pub(super) struct Gradients {
    pub q: Heads,
    pub k: Heads,
    pub v: Heads,
}

impl CausalAttention {
    fn scale(&self) -> f32 {
        1.0 / (self.q.width as f32).sqrt()
    }

    fn tiles(&self) -> usize {
        self.q.positions.div_ceil(TILE_POSITIONS)
    }

    fn threads(&self) -> usize {
        let queries = self.q.batch * self.q.heads * self.q.positions;
        parallel::threads(queries * self.k.positions * self.q.width)
    }

    fn tile(&self, batch: usize, head: usize, at: usize) -> PositionTile {
        let rows = at * TILE_POSITIONS..((at + 1) * TILE_POSITIONS).min(self.q.positions);
        let before = self.k.positions - self.q.positions;
        let from = seen(before + rows.start, self.window).start;
        PositionTile {
            batch,
            head,
            kv_head: head / (self.q.heads / self.k.heads),
            own: before + rows.start - from,
            keys: from..before + rows.end,
            rows,
        }
    }

    /// Writes the output and, for each head and position, the logarithm of the sum of its unnormalized weights,
    /// `[batch, heads, positions]`.
    pub fn forward(&self, level: Level, out: Heads, logs: Shared) {
        let (heads, tiles) = (self.q.heads, self.tiles());
        parallel::each(self.q.batch * heads * tiles, self.threads(), |at| {
            let tile = self.tile(at / tiles / heads, at / tiles % heads, at % tiles);
            let logs = logs.offset(at / tiles * self.q.positions + tile.rows.start);
            self.forward_tile(level, &tile, out, logs);
        });
    }

    fn forward_tile(&self, level: Level, tile: &PositionTile, out: Heads, logs: Shared) {
        let keys = tile.keys.len();
        // SAFETY: heads have these positions; those of the result are this task's.
        with_buffers(tile.rows.len() * keys, |weights, _| unsafe {
            self.scores(tile, weights);
            level.run(Softmax {
                weights,
                keys,
                own: tile.own,
                window: self.window,
                logs,
            });
            let weights = Matrix::rows(weights, keys);
            for (rows, keys) in tile.parts() {
                let values = self.v.of_keys(tile, &keys);
                let sizes = [rows.len(), self.v.width, keys.len()];
                let to = out.to_rows(tile, &rows);
                let weights = weights.from(rows.start, keys.start);
                self.products
                    .multiply(sizes, to, keys.start > 0, 1.0, weights, values);
            }
        });
    }

    /// Gradients from the output and its gradient.
    pub fn backward(&self, level: Level, out: Heads, grad: Heads, logs: &[f32], to: Gradients) {
        let (kv_heads, share) = (self.k.heads, self.q.heads / self.k.heads.max(1));
        // All positions add to the gradients of a head's keys and values, one after the other.
        parallel::each(self.q.batch * kv_heads, self.threads(), |at| {
            let (batch, kv_head) = (at / kv_heads, at % kv_heads);
            for head in kv_head * share..(kv_head + 1) * share {
                let logs = &logs[(batch * self.q.heads + head) * self.q.positions..];
                for tile in 0..self.tiles() {
                    let tile = self.tile(batch, head, tile);
                    let logs = &logs[tile.rows.clone()];
                    self.backward_tile(level, &tile, [out, grad], logs, to);
                }
            }
        });
    }

    fn backward_tile(
        &self,
        level: Level,
        tile: &PositionTile,
        [out, grad]: [Heads; 2],
        logs: &[f32],
        to: Gradients,
    ) {
        let keys = tile.keys.len();
        let (width, v_width) = (self.q.width, self.v.width);
        // SAFETY: heads have these positions; those of the results are this task's.
        with_buffers(tile.rows.len() * keys, |weights, slopes| unsafe {
            self.scores(tile, weights);
            for (rows, of) in tile.parts() {
                let sizes = [rows.len(), of.len(), v_width];
                let to = Out::sums(slopes.as_mut_ptr(), keys).from(rows.start, of.start);
                let (grad, values) = (grad.of_rows(tile, &rows), self.v.of_keys(tile, &of));
                self.products
                    .multiply(sizes, to, false, 1.0, grad, values.transposed());
            }
            let all = 0..tile.rows.len();
            level.run(SoftmaxBackward {
                weights,
                slopes,
                keys,
                own: tile.own,
                window: self.window,
                logs,
                out: out.of_rows(tile, &all),
                grad: grad.of_rows(tile, &all),
                width: v_width,
                scale: self.scale(),
            });
            let (weights, slopes) = (Matrix::rows(weights, keys), Matrix::rows(slopes, keys));
            for (rows, of) in tile.parts() {
                let weights = weights.from(rows.start, of.start).transposed();
                let slopes = slopes.from(rows.start, of.start);
                let grad = grad.of_rows(tile, &rows);
                let (queries, keys) = (self.q.of_rows(tile, &rows), self.k.of_keys(tile, &of));
                let (sizes, to_v) = ([of.len(), v_width, rows.len()], to.v.to_keys(tile, &of));
                self.products
                    .multiply(sizes, to_v, true, 1.0, weights, grad);
                let (sizes, to_k) = ([of.len(), width, rows.len()], to.k.to_keys(tile, &of));
                self.products
                    .multiply(sizes, to_k, true, 1.0, slopes.transposed(), queries);
                let (sizes, to_q) = ([rows.len(), width, of.len()], to.q.to_rows(tile, &rows));
                self.products
                    .multiply(sizes, to_q, of.start > 0, 1.0, slopes, keys);
            }
        });
    }

    /// Scaled dot products of a tile's queries and keys, `[rows, keys]`, but for those that no [part](PositionTile::parts) has.
    ///
    /// # Safety
    ///
    /// The tile belongs to these heads.
    unsafe fn scores(&self, tile: &PositionTile, scores: &mut [f32]) {
        let scores = Out::sums(scores.as_mut_ptr(), tile.keys.len());
        for (rows, keys) in tile.parts() {
            let (queries, by) = (self.q.of_rows(tile, &rows), self.k.of_keys(tile, &keys));
            let sizes = [rows.len(), keys.len(), self.q.width];
            let to = scores.from(rows.start, keys.start);
            // SAFETY: as of the caller.
            unsafe {
                self.products
                    .multiply(sizes, to, false, self.scale(), queries, by.transposed())
            };
        }
    }
}

/// Positions of a tile's own heads.
impl Heads {
    /// Rows of a tile, for reading.
    fn of_rows(self, tile: &PositionTile, rows: &Range<usize>) -> Matrix {
        self.matrix(tile.batch, tile.head, tile.rows.start + rows.start)
    }

    /// Keys of a tile, for reading.
    fn of_keys(self, tile: &PositionTile, keys: &Range<usize>) -> Matrix {
        self.matrix(tile.batch, tile.kv_head, tile.keys.start + keys.start)
    }

    /// Rows of a tile, for writing.
    fn to_rows(self, tile: &PositionTile, rows: &Range<usize>) -> Out {
        let first = self.at(tile.batch, tile.head, tile.rows.start + rows.start);
        Out::sums(first, self.stride())
    }

    /// Keys of a tile, for writing.
    fn to_keys(self, tile: &PositionTile, keys: &Range<usize>) -> Out {
        let first = self.at(tile.batch, tile.kv_head, tile.keys.start + keys.start);
        Out::sums(first, self.stride())
    }
}

/// The keys that a row attends to.
#[inline(always)]
fn seen(own: usize, window: Option<usize>) -> Range<usize> {
    let end = own + 1;
    end - window.unwrap_or(end).min(end)..end
}

/// Writes zeros for the keys that a row does not attend to, and `edge` in the vectors that have keys of both kinds. Returns the
/// vectors of the others: whole ones, unless the row ends within the last.
#[inline(always)]
fn hide<S: Simd>(row: &mut [f32], seen: Range<usize>, edge: f32) -> Range<usize> {
    let lanes = S::lanes32();
    let around = seen.start / lanes * lanes..seen.end.next_multiple_of(lanes).min(row.len());
    row[..around.start].fill(0.0);
    row[around.start..seen.start].fill(edge);
    row[seen.end..around.end].fill(edge);
    row[around.end..].fill(0.0);
    around
}

/// Turns scores into weights.
struct Softmax<'a> {
    /// `[rows, keys]`.
    weights: &'a mut [f32],
    keys: usize,
    own: usize,
    window: Option<usize>,
    logs: Shared,
}

/// `e^(x - largest)`.
#[derive(Clone, Copy)]
struct ExpLess(f32);

impl Elementwise<1, 1> for ExpLess {
    #[inline(always)]
    fn apply<S: Simd>(self, [x]: [Vector<S, f32>; 1]) -> [Vector<S, f32>; 1] {
        [exp(x - self.0.splat())]
    }
}

/// `x` times a number.
#[derive(Clone, Copy)]
struct Times(f32);

impl Elementwise<1, 1> for Times {
    #[inline(always)]
    fn apply<S: Simd>(self, [x]: [Vector<S, f32>; 1]) -> [Vector<S, f32>; 1] {
        [x * self.0.splat()]
    }
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        for (row, weights) in self.weights.chunks_exact_mut(self.keys).enumerate() {
            let seen = seen(self.own + row, self.window);
            let vectors = hide::<S>(weights, seen, f32::NEG_INFINITY);
            let weights = &mut weights[vectors];
            let (len, to) = (weights.len(), weights.as_mut_ptr());
            let (mut largest, mut sum) = (f32::NEG_INFINITY.splat::<S>(), 0f32.splat::<S>());
            // SAFETY: there are so many numbers, and a logarithm a row.
            unsafe {
                let mut at = 0;
                while at < len {
                    largest = largest.max(load(to, at, len, f32::NEG_INFINITY));
                    at += S::lanes32();
                }
                let largest = largest.reduce_max();
                each::<S, 1, 1>(ExpLess(largest), [to], [to], len);
                let mut at = 0;
                while at < len {
                    sum += load(to, at, len, 0.0);
                    at += S::lanes32();
                }
                let sum = sum.reduce_add();
                each::<S, 1, 1>(Times(1.0 / sum), [to], [to], len);
                *self.logs.at(row) = largest + sum.ln();
            }
        }
    }
}

/// Turns scores into weights again, and gradients of weights into those of scores.
struct SoftmaxBackward<'a> {
    /// `[rows, keys]`.
    weights: &'a mut [f32],
    /// As the weights.
    slopes: &'a mut [f32],
    keys: usize,
    own: usize,
    window: Option<usize>,
    logs: &'a [f32],
    out: Matrix,
    grad: Matrix,
    width: usize,
    scale: f32,
}

/// Weights and gradients of unscaled scores, from scores and gradients of weights.
#[derive(Clone, Copy)]
struct Slope {
    log: f32,
    /// Mean of the gradients of the row's weights.
    mean: f32,
    scale: f32,
}

impl Elementwise<2, 2> for Slope {
    #[inline(always)]
    fn apply<S: Simd>(self, [score, slope]: [Vector<S, f32>; 2]) -> [Vector<S, f32>; 2] {
        let weight = exp(score - self.log.splat());
        let slope = weight * (slope - self.mean.splat()) * self.scale.splat();
        [weight, slope]
    }
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let slopes = self.slopes.chunks_exact_mut(self.keys);
        let rows = self.weights.chunks_exact_mut(self.keys).zip(slopes);
        for (row, (weights, slopes)) in rows.enumerate() {
            let out = self.out.first.wrapping_add(row * self.out.row);
            let grad = self.grad.first.wrapping_add(row * self.grad.row);
            // SAFETY: the matrices have these rows.
            let mean = unsafe { dot::<S>(out, grad, self.width) };
            let seen = seen(self.own + row, self.window);
            hide::<S>(slopes, seen.clone(), 0.0);
            // A score of minus infinity has neither weight nor slope.
            let vectors = hide::<S>(weights, seen, f32::NEG_INFINITY);
            let op = Slope {
                log: self.logs[row],
                mean,
                scale: self.scale,
            };
            let len = vectors.len();
            let both = [weights, slopes].map(|values| values[vectors.clone()].as_mut_ptr());
            // SAFETY: there are so many of each.
            unsafe { each::<S, 2, 2>(op, both.map(|values| values.cast_const()), both, len) };
        }
    }
}
