//! Kernels that turn words into weights.
//!
//! - Supports: 2, 3, 4 and 8 bits, every group size, every number of rows and columns; step sizes
//!   and outputs in any float type of the device, computed in f32.
//! - Refuses: nothing; the caller checks the device's types and limits before the launch.
//! - Work: one unit unpacks one block of words (16, 32, 8 or 4 codes) of one column vector.

use crate::block::Block;
use crate::cube::group::{Chunks, UnitRows, finish};
use crate::cube::plan::group::GroupCube;
use crate::cube::words::{WeightSizes, block_weights, row_codes};
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The part of a weight that is dequantized.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Part {
    /// Its first block of rows.
    pub first_block: usize,
    /// Its rows.
    pub rows: usize,
    /// Its first column vector.
    pub first_vector: usize,
    /// Its column vectors.
    pub vectors: usize,
}

#[cube(launch_unchecked)]
pub(crate) fn dequantize_kernel<S: Float, O: Float, N: Size>(
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    out: &mut [Vector<O, N>],
    weight: WeightSizes,
    part: Part,
    total: usize,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
    #[define(S, O)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    let at = ABSOLUTE_POS / part.vectors;
    let column = ABSOLUTE_POS % part.vectors;
    let weights = block_weights::<S, N>(
        words,
        scales,
        zero_points,
        &weight,
        part.first_block + at,
        part.first_vector + column,
        block,
        aligned,
    );
    #[unroll]
    for i in 0..block.fields {
        let row = at * block.fields + i;
        if row < part.rows {
            out[row * part.vectors + column] = Vector::cast_from(weights[i]);
        }
    }
}

/// Sums `grad * (q - z)` and `-grad * s` over a chunk of a group: the gradients of `s` and `z`.
///
/// A cube takes `lanes` column vectors of one chunk of one group, see [`crate::cube::plan::group::GroupPlan`].
/// `grad` may have only some columns of the weight, from `first_vector` on; the sums go to `ds` and
/// `dz`, `[groups * chunks, columns of grad]`.
#[cube(launch_unchecked)]
pub(crate) fn dequantize_backward_kernel<S: Float, G: Float, N: Size>(
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    grad: &[Vector<G, N>],
    ds: &mut [Vector<f32, N>],
    dz: &mut [Vector<f32, N>],
    weight: WeightSizes,
    part: WeightSizes,
    first_vector: usize,
    chunks: Chunks,
    cubes: usize,
    #[comptime] cube: GroupCube,
    #[comptime] block: Block,
    #[define(S, G)] _dtypes: [ElemType; 2],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let mut shared_s = Shared::<[Vector<f32, N>]>::new_slice(cube.units());
    let mut shared_z = Shared::<[Vector<f32, N>]>::new_slice(cube.units());
    let place = UnitRows::new(&part, &chunks, cube);

    let mut sum_s = Vector::<f32, N>::new(0.0);
    let mut sum_z = Vector::<f32, N>::new(0.0);
    if place.column < part.vectors {
        let column = first_vector + place.column;
        let at = place.group * weight.vectors + column;
        let zero = Vector::<f32, N>::cast_from(zero_points[at]);
        for row in range_stepped(place.start + place.slice, place.end, cube.slices) {
            let g = Vector::<f32, N>::cast_from(grad[row * part.vectors + place.column]);
            let q = row_codes::<N>(words, &weight, row, column, block);
            sum_s += g * (q - zero);
            sum_z += g;
        }
        sum_z = Vector::new(0.0f32) - sum_z * Vector::<f32, N>::cast_from(scales[at]);
    }
    finish::<N>(
        &mut shared_s,
        &mut shared_z,
        sum_s,
        sum_z,
        ds,
        dz,
        &place,
        &part,
        cube,
    );
}
