//! The gradients by step sizes and zero points, fused: `x^T dy` is computed tile by tile, and each tile is
//! reduced over the rows of its group at once, so the gradient of the dense weight is never stored.
//!
//! `ds = sum over rows i of a group of (q - z)[i] * (x^T dy)[i]`, `dz = -s * sum (x^T dy)[i]`.
//!
//! - Supports and refuses: as the forward matmul.
//! - Work: a cube takes a chunk of the rows of one group and a tile of columns, and steps along the
//!   rows of the input. If a group has several chunks, a second kernel adds up their sums.

use super::matrix::{multiply, spread, zero_sums};
use super::stage::{Window, stage_matrix};
use crate::block::Block;
use crate::cube::plan::tile::{DEPTH, TilePlan};
use crate::cube::words::{WeightSizes, row_codes};
use burn_cubecl::cubecl;
use cubecl::cmma::MatrixLayout;
use cubecl::prelude::*;

/// The part that a cube reduces.
#[derive(CubeType, Clone, Copy)]
struct ChunkTile {
    /// The group.
    group: usize,
    /// The chunk, counted over all groups.
    chunk: usize,
    /// First row of the weight.
    start: usize,
    /// Past the last row.
    end: usize,
    /// First column vector.
    vector: usize,
}

#[cube]
impl ChunkTile {
    /// Cubes run over column tiles first, then over chunks.
    fn new(
        weight: &WeightSizes,
        chunks: usize,
        #[comptime] tile_vectors: usize,
        #[comptime] plan: TilePlan,
    ) -> ChunkTile {
        let across = weight.vectors.div_ceil(tile_vectors);
        let chunk = CUBE_POS / across;
        let group = chunk / chunks;
        let start = group * weight.group + chunk % chunks * plan.rows;
        ChunkTile {
            group,
            chunk,
            start,
            end: (start + plan.rows).min((group + 1) * weight.group),
            vector: CUBE_POS % across * tile_vectors,
        }
    }
}

/// Stages the tiles of one step, from row `row` of the input on.
#[cube]
#[allow(clippy::too_many_arguments)]
fn stage<X: Float, E: Float, NX: Size, N: Size>(
    x: &[Vector<X, NX>],
    grad: &[Vector<X, N>],
    left: &mut Shared<[Vector<E, NX>]>,
    right: &mut Shared<[Vector<E, N>]>,
    weight: &WeightSizes,
    m: usize,
    place: &ChunkTile,
    row: usize,
    #[comptime] plan: TilePlan,
) {
    // Rows of a group begin and end at whole vectors of the input.
    let inputs = Window {
        row,
        rows: m,
        vector: place.start / NX::value(),
        vectors: place.end / NX::value(),
        stride: weight.rows / NX::value(),
    };
    stage_matrix::<X, E, NX>(x, left, &inputs, DEPTH, plan.rows, plan);
    let grads = Window {
        row,
        rows: m,
        vector: place.vector,
        vectors: weight.vectors,
        stride: weight.vectors,
    };
    stage_matrix::<X, E, N>(grad, right, &grads, DEPTH, plan.columns, plan);
}

/// Adds up the partial sums of each column of the tile, and writes the chunk's sums.
#[cube]
#[allow(clippy::too_many_arguments)]
fn finish<S: Float, N: Size>(
    meeting_s: &Shared<[Vector<f32, N>]>,
    meeting_z: &Shared<[Vector<f32, N>]>,
    scales: &[Vector<S, N>],
    ds: &mut [Vector<f32, N>],
    dz: &mut [Vector<f32, N>],
    weight: &WeightSizes,
    place: &ChunkTile,
    #[comptime] tile_vectors: usize,
    #[comptime] plan: TilePlan,
) {
    let units = comptime!(plan.units());
    for at in range_stepped(UNIT_POS as usize, tile_vectors, units) {
        let vector = place.vector + at;
        if vector < weight.vectors {
            let mut sum_s = Vector::<f32, N>::new(0.0);
            let mut sum_z = Vector::<f32, N>::new(0.0);
            for part in 0..comptime!(plan.meeting()) {
                sum_s += meeting_s[part * tile_vectors + at];
                sum_z += meeting_z[part * tile_vectors + at];
            }
            let scale = Vector::<f32, N>::cast_from(scales[place.group * weight.vectors + vector]);
            let out = place.chunk * weight.vectors + vector;
            ds[out] = sum_s;
            dz[out] = Vector::new(0.0f32) - sum_z * scale;
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn scale_units_kernel<X: Float, S: Float, NX: Size, N: Size>(
    x: &[Vector<X, NX>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    grad: &[Vector<X, N>],
    ds: &mut [Vector<f32, N>],
    dz: &mut [Vector<f32, N>],
    weight: WeightSizes,
    m: usize,
    chunks: usize,
    cubes: usize,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[define(X, S)] _dtypes: [ElemType; 2],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let width = N::value();
    let x_width = NX::value();
    let tile_vectors = comptime!(plan.columns / width);
    let left_stride = comptime!(plan.stride(plan.rows) / x_width);
    let right_stride = comptime!(plan.stride(plan.columns) / width);
    let mut left = Shared::<[Vector<f32, NX>]>::new_slice(comptime!(DEPTH * left_stride));
    let mut right = Shared::<[Vector<f32, N>]>::new_slice(comptime!(DEPTH * right_stride));
    let parts = comptime!(plan.meeting() * tile_vectors);
    let mut meeting_s = Shared::<[Vector<f32, N>]>::new_slice(parts);
    let mut meeting_z = Shared::<[Vector<f32, N>]>::new_slice(parts);
    let place = ChunkTile::new(&weight, chunks, tile_vectors, plan);
    let rows = comptime!(plan.unit_rows());
    let lane = UNIT_POS as usize % plan.across;
    let part = UNIT_POS as usize / plan.across;

    let mut sums = Array::<Vector<f32, N>>::new(rows);
    #[unroll]
    for i in 0..rows {
        sums[i] = Vector::new(0.0f32);
    }
    for row in range_stepped(0, m, DEPTH) {
        stage::<X, f32, NX, N>(
            x, grad, &mut left, &mut right, &weight, m, &place, row, plan,
        );
        sync_cube();
        for d in 0..DEPTH {
            let grads = right[d * right_stride + lane];
            #[unroll]
            for i in 0..comptime!(rows / x_width) {
                let inputs = left[d * left_stride + part * comptime!(rows / x_width) + i];
                #[unroll]
                for e in 0..x_width {
                    sums[comptime!(i * x_width + e)] += grads * Vector::new(inputs.extract(e));
                }
            }
        }
        sync_cube();
    }

    let vector = place.vector + lane;
    let mut sum_s = Vector::<f32, N>::new(0.0);
    let mut sum_z = Vector::<f32, N>::new(0.0);
    if vector < weight.vectors {
        let zero = Vector::<f32, N>::cast_from(zero_points[place.group * weight.vectors + vector]);
        #[unroll]
        for i in 0..rows {
            let row = place.start + part * rows + i;
            if row < place.end {
                let centered = row_codes::<N>(words, &weight, row, vector, block) - zero;
                sum_s += sums[i] * centered;
                sum_z += sums[i];
            }
        }
    }
    meeting_s[part * tile_vectors + lane] = sum_s;
    meeting_z[part * tile_vectors + lane] = sum_z;
    sync_cube();
    finish::<S, N>(
        &meeting_s,
        &meeting_z,
        scales,
        ds,
        dz,
        &weight,
        &place,
        tile_vectors,
        plan,
    );
}

#[cube(launch_unchecked)]
pub(crate) fn scale_matrix_kernel<X: Float, S: Float, NX: Size, N: Size>(
    x: &[Vector<X, NX>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    grad: &[Vector<X, N>],
    ds: &mut [Vector<f32, N>],
    dz: &mut [Vector<f32, N>],
    weight: WeightSizes,
    m: usize,
    chunks: usize,
    cubes: usize,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[define(X, S)] _dtypes: [ElemType; 2],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let width = N::value();
    let x_width = NX::value();
    let tile_vectors = comptime!(plan.columns / width);
    let left_stride = comptime!(plan.stride(plan.rows) / x_width);
    let right_stride = comptime!(plan.stride(plan.columns) / width);
    let mut left =
        Shared::<[Vector<X, NX>]>::new_aligned_slice(comptime!(DEPTH * left_stride), 32usize);
    let mut right =
        Shared::<[Vector<X, N>]>::new_aligned_slice(comptime!(DEPTH * right_stride), 32usize);
    let fragment = comptime!(plan.fragment);
    let tile = comptime!(fragment.elements());
    let mut scratch =
        Shared::<[f32]>::new_aligned_slice(comptime!(plan.down * plan.across * tile), 32usize);
    let parts = comptime!(plan.meeting() * tile_vectors);
    let mut meeting_s = Shared::<[Vector<f32, N>]>::new_slice(parts);
    let mut meeting_z = Shared::<[Vector<f32, N>]>::new_slice(parts);
    let place = ChunkTile::new(&weight, chunks, tile_vectors, plan);
    let plane_index = PLANE_POS as usize;
    let plane_row = plane_index / plan.across * comptime!(plan.unit_rows());
    let plane_column = plane_index % plan.across * comptime!(plan.unit_columns());

    let mut sums = zero_sums(plan);
    for row in range_stepped(0, m, DEPTH) {
        stage::<X, X, NX, N>(
            x, grad, &mut left, &mut right, &weight, m, &place, row, plan,
        );
        sync_cube();
        multiply::<X, NX, N>(
            &left,
            &right,
            &mut sums,
            plane_row,
            plane_column,
            plan.rows,
            plan.columns,
            MatrixLayout::ColMajor,
            MatrixLayout::RowMajor,
            plan,
        );
        sync_cube();
    }

    // Half of the rows of one column vector of a fragment for each unit.
    let (down, across) = comptime!(plan.fragments());
    let fragment_vectors = comptime!(fragment.n / width);
    let half = comptime!(fragment.m / 2);
    #[unroll]
    for i in 0..down {
        #[unroll]
        for j in 0..across {
            spread(
                &mut scratch,
                sums.index(comptime!(i * across + j)),
                plane_index,
                plan,
            );
            sync_cube();
            let fragment_row = plane_row + comptime!(i * fragment.m);
            let fragment_vector = (plane_column + comptime!(j * fragment.n)) / width;
            for at in range_stepped(
                UNIT_POS_PLANE as usize,
                comptime!(2 * fragment_vectors),
                fragment.plane,
            ) {
                let lane = at % fragment_vectors;
                let first = at / fragment_vectors * half;
                let vector = place.vector + fragment_vector + lane;
                let mut sum_s = Vector::<f32, N>::new(0.0);
                let mut sum_z = Vector::<f32, N>::new(0.0);
                if vector < weight.vectors {
                    let zero = Vector::<f32, N>::cast_from(
                        zero_points[place.group * weight.vectors + vector],
                    );
                    for r in 0..half {
                        let row = place.start + fragment_row + first + r;
                        if row < place.end {
                            let mut gradient = Vector::<f32, N>::new(0.0);
                            let start =
                                plane_index * tile + (first + r) * fragment.n + lane * width;
                            #[unroll]
                            for e in 0..width {
                                gradient.insert(e, scratch[start + e]);
                            }
                            let centered =
                                row_codes::<N>(words, &weight, row, vector, block) - zero;
                            sum_s += gradient * centered;
                            sum_z += gradient;
                        }
                    }
                }
                let part = fragment_row / half + at / fragment_vectors;
                meeting_s[part * tile_vectors + fragment_vector + lane] = sum_s;
                meeting_z[part * tile_vectors + fragment_vector + lane] = sum_z;
            }
            sync_cube();
        }
    }
    finish::<S, N>(
        &meeting_s,
        &meeting_z,
        scales,
        ds,
        dz,
        &weight,
        &place,
        tile_vectors,
        plan,
    );
}
