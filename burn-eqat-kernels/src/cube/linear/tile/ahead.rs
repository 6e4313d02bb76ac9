//! Loads the tiles of a step into registers while the step before it is multiplied. Loads that are made where they are needed are
//! waited for in every step.

use super::stage::{Window, window_value};
use crate::block::Block;
use crate::cube::plan::tile::{MatmulKind, TilePlan};
use crate::cube::words::{WeightSizes, block_codes};
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The sizes of what the units of a cube load in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Parts {
    units: usize,
    /// Rows, vectors of a row, and vectors from one row to the next, of the tile of the input.
    left: [usize; 3],
    /// Blocks of rows, vectors of a row, and vectors from one row to the next, of the tile of the weight.
    right: [usize; 3],
    block: Block,
}

impl Parts {
    /// The parts of a plan, for vectors of `left_width` and `right_width` elements. `None` where a unit would load so much that it
    /// had no room for it, and where blocks are not within groups.
    pub fn new(
        plan: &TilePlan,
        kind: MatmulKind,
        [left_width, right_width]: [usize; 2],
        block: Block,
        aligned: bool,
    ) -> Option<Self> {
        let (left, right) = (plan.left(kind), plan.right(kind));
        let parts = Parts {
            units: plan.units(),
            left: [
                left.0,
                left.1 / left_width,
                plan.stride(left.1) / left_width,
            ],
            right: [
                right.0 / block.fields,
                right.1 / right_width,
                plan.stride(right.1) / right_width,
            ],
            block,
        };
        // Registers of a unit: values of the input in words of 32 bits, words, and step sizes and zero points.
        let values = parts.left_steps() * left_width * plan.fragment.bytes / 4;
        let weights = parts.right_steps() * right_width * (block.words + 2);
        (aligned && values <= 16 && weights <= 32).then_some(parts)
    }

    fn left_steps(&self) -> usize {
        (self.left[0] * self.left[1]).div_ceil(self.units)
    }

    fn right_steps(&self) -> usize {
        (self.right[0] * self.right[1]).div_ceil(self.units)
    }
}

/// A unit's part of a step.
#[derive(CubeType)]
pub(crate) struct Ahead<E: Float, NX: Size, N: Size> {
    values: Array<Vector<E, NX>>,
    words: Array<Vector<u32, N>>,
    scales: Array<Vector<f32, N>>,
    zeros: Array<Vector<f32, N>>,
}

#[cube]
impl<E: Float, NX: Size, N: Size> Ahead<E, NX, N> {
    /// Room for a part; next to none where there are no parts.
    pub fn new(#[comptime] parts: Option<Parts>) -> Ahead<E, NX, N> {
        let (left, right, words) = comptime!(match parts {
            Some(parts) => (
                parts.left_steps(),
                parts.right_steps(),
                parts.right_steps() * parts.block.words
            ),
            None => (1, 1, 1),
        });
        Ahead::<E, NX, N> {
            values: Array::new(left),
            words: Array::new(words),
            scales: Array::new(right),
            zeros: Array::new(right),
        }
    }
}

/// Loads a unit's part of a tile of the input, and of the tile of the weight whose first row is `row` (the first of a block) and first
/// column vector `vector`.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn load<X: Float, S: Float, E: Float, NX: Size, N: Size>(
    ahead: &mut Ahead<E, NX, N>,
    x: &[Vector<X, NX>],
    window: &Window,
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    weight: &WeightSizes,
    row: usize,
    vector: usize,
    #[comptime] parts: Parts,
) {
    let block = comptime!(parts.block);
    #[unroll]
    for step in 0..comptime!(parts.right_steps()) {
        let at = comptime!(step * parts.units) + UNIT_POS as usize;
        // Past the weight, what is loaded is not used.
        let first =
            (row + at / comptime!(parts.right[1]) * block.fields).min(weight.rows - block.fields);
        let column = (vector + at % comptime!(parts.right[1])).min(weight.vectors - 1);
        let first_word = first / block.fields * block.words;
        #[unroll]
        for i in 0..block.words {
            ahead.words[comptime!(step * block.words + i)] =
                words[(first_word + i) * weight.vectors + column];
        }
        let place = first / weight.group * weight.vectors + column;
        ahead.scales[step] = Vector::cast_from(scales[place]);
        ahead.zeros[step] = Vector::cast_from(zero_points[place]);
    }
    #[unroll]
    for step in 0..comptime!(parts.left_steps()) {
        let at = comptime!(step * parts.units) + UNIT_POS as usize;
        let (i, j) = (at / comptime!(parts.left[1]), at % comptime!(parts.left[1]));
        ahead.values[step] = window_value::<X, E, NX>(x, window, i, j);
    }
}

/// Puts a part where the cube multiplies: the input as it is, and the weights `(q - z) * s`, with zeros past the weight. `row` and
/// `vector` are those that it was loaded for.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn put<E: Float, NX: Size, N: Size>(
    ahead: &Ahead<E, NX, N>,
    left: &mut Shared<[Vector<E, NX>]>,
    right: &mut Shared<[Vector<E, N>]>,
    weight: &WeightSizes,
    row: usize,
    vector: usize,
    #[comptime] parts: Parts,
) {
    let block = comptime!(parts.block);
    let [blocks, tile_vectors, stride] = comptime!(parts.right);
    #[unroll]
    for step in 0..comptime!(parts.right_steps()) {
        let at = comptime!(step * parts.units) + UNIT_POS as usize;
        if at < comptime!(blocks * tile_vectors) {
            let (i, j) = (at / tile_vectors, at % tile_vectors);
            let mut scale = ahead.scales[step];
            if row + i * block.fields >= weight.rows || vector + j >= weight.vectors {
                scale = Vector::new(0.0f32);
            }
            let mut words = Array::<Vector<u32, N>>::new(block.words);
            #[unroll]
            for word in 0..block.words {
                words[word] = ahead.words[comptime!(step * block.words + word)];
            }
            let codes = block_codes::<N>(&words, weight.exponent, block);
            #[unroll]
            for f in 0..block.fields {
                let value = (codes[f] - ahead.zeros[step]) * scale;
                right[(i * block.fields + f) * stride + j] = Vector::cast_from(value);
            }
        }
    }
    let [rows, tile_vectors, stride] = comptime!(parts.left);
    #[unroll]
    for step in 0..comptime!(parts.left_steps()) {
        let at = comptime!(step * parts.units) + UNIT_POS as usize;
        if at < comptime!(rows * tile_vectors) {
            left[at / tile_vectors * stride + at % tile_vectors] = ahead.values[step];
        }
    }
}
