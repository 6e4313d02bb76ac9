//! Stages tiles in shared memory, with zeros past the end of the matrix.

use crate::block::Block;
use crate::cube::plan::tile::TilePlan;
use crate::cube::words::{WeightSizes, block_weights};
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The part of a matrix of row vectors that a tile may read.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Window {
    /// First row of the tile.
    pub row: usize,
    /// Past the last row of the matrix.
    pub rows: usize,
    /// First vector of the tile.
    pub vector: usize,
    /// Past the last vector of the matrix.
    pub vectors: usize,
    /// Vectors from one row to the next.
    pub stride: usize,
}

/// Vector `j` of row `i` of a tile.
#[cube]
pub(crate) fn window_value<T: Float, E: Float, N: Size>(
    matrix: &[Vector<T, N>],
    window: &Window,
    i: usize,
    j: usize,
) -> Vector<E, N> {
    let row = window.row + i;
    let vector = window.vector + j;
    let mut value = Vector::<E, N>::new(E::from_int(0));
    if row < window.rows && vector < window.vectors {
        value = Vector::cast_from(matrix[row * window.stride + vector]);
    }
    value
}

/// Copies a tile of `tile_rows` rows of `tile_len` elements.
#[cube]
pub(crate) fn stage_matrix<T: Float, E: Float, N: Size>(
    matrix: &[Vector<T, N>],
    tile: &mut Shared<[Vector<E, N>]>,
    window: &Window,
    #[comptime] tile_rows: usize,
    #[comptime] tile_len: usize,
    #[comptime] plan: TilePlan,
) {
    let width = N::value();
    let tile_vectors = comptime!(tile_len / width);
    let stride = comptime!(plan.stride(tile_len) / width);
    let units = comptime!(plan.units());
    let total = comptime!(tile_rows * tile_vectors);
    let steps = comptime!(total.div_ceil(units));
    // Unrolled, so that the loads of several steps are under way together.
    #[unroll(steps <= 8)]
    for step in 0..steps {
        let at = step * units + UNIT_POS as usize;
        let i = at / tile_vectors;
        let j = at % tile_vectors;
        let value = window_value::<T, E, N>(matrix, window, i, j);
        if at < total {
            tile[i * stride + j] = value;
        }
    }
}

/// Unpacks a tile of weights: `tile_rows` rows from row `row` on (the first row of a block), and `tile_len`
/// columns from column vector `vector` on.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn stage_weights<S: Float, E: Float, N: Size>(
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    tile: &mut Shared<[Vector<E, N>]>,
    weight: &WeightSizes,
    row: usize,
    vector: usize,
    #[comptime] tile_rows: usize,
    #[comptime] tile_len: usize,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
) {
    let width = N::value();
    let tile_vectors = comptime!(tile_len / width);
    let blocks = comptime!(tile_rows / block.fields);
    let stride = comptime!(plan.stride(tile_len) / width);
    let units = comptime!(plan.units());
    for at in range_stepped(UNIT_POS as usize, comptime!(blocks * tile_vectors), units) {
        let i = at / tile_vectors;
        let j = at % tile_vectors;
        let first = row + i * block.fields;
        let column = vector + j;
        if first < weight.rows && column < weight.vectors {
            let weights = block_weights::<S, N>(
                words,
                scales,
                zero_points,
                weight,
                first / block.fields,
                column,
                block,
                aligned,
            );
            #[unroll]
            for f in 0..block.fields {
                tile[(i * block.fields + f) * stride + j] = Vector::cast_from(weights[f]);
            }
        } else {
            #[unroll]
            for f in 0..block.fields {
                tile[(i * block.fields + f) * stride + j] = Vector::new(E::from_int(0));
            }
        }
    }
}
