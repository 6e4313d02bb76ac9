//! The matmul of an input of more than a few rows with a packed weight.
//!
//! - Supports: any number of rows; 2, 3, 4 and 8 bits; every group size; any float types of the
//!   device, sums in f32. On the matrix units: inputs of a type that the device multiplies with sums in
//!   f32, 8 or 16 rows and columns at a time.
//! - Refuses: a device whose shared memory cannot hold the tiles (there is no plan then).
//! - Work: a cube computes one tile of the output, from one range of `k` if there are several ([`TilePlan`]).
//!   It steps along `k`, and stages a tile of the input and a tile of unpacked weights; no more of the dense
//!   weight is ever stored. Either each unit multiplies a few rows by one column vector in registers, or each
//!   plane uses the matrix units.

use super::ahead::{Ahead, Parts, load, put};
use super::matrix::{multiply, spread, zero_sums};
use super::stage::{Window, stage_matrix, stage_weights};
use crate::block::Block;
use crate::cube::plan::tile::{DEPTH, MatmulKind, TilePlan};
use crate::cube::words::WeightSizes;
use burn_cubecl::cubecl;
use cubecl::cmma::MatrixLayout;
use cubecl::prelude::*;

/// The part of the output of a cube.
#[derive(CubeType, Clone, Copy)]
struct ForwardTile {
    row: usize,
    vector: usize,
    split: usize,
    start: usize,
    end: usize,
}

#[cube]
impl ForwardTile {
    /// Cubes run over column tiles first, then over row tiles, then over ranges.
    fn new(
        weight: &WeightSizes,
        m: usize,
        steps: usize,
        #[comptime] tile_vectors: usize,
        #[comptime] plan: TilePlan,
    ) -> ForwardTile {
        let across = weight.vectors.div_ceil(tile_vectors);
        let down = m.div_ceil(plan.rows);
        let split = CUBE_POS / (across * down);
        let start = split * steps * DEPTH;
        ForwardTile {
            row: CUBE_POS / across % down * plan.rows,
            vector: CUBE_POS % across * tile_vectors,
            split,
            start,
            end: (start + steps * DEPTH).min(weight.rows),
        }
    }
}

/// The part of the input for the step from row `k` of the weight on.
#[cube]
fn window<NX: Size>(weight: &WeightSizes, m: usize, place: &ForwardTile, k: usize) -> Window {
    let vectors = weight.rows / NX::value();
    Window {
        row: place.row,
        rows: m,
        vector: k / NX::value(),
        vectors,
        stride: vectors,
    }
}

/// Loads the tiles of the step along `k`, from row `k` of the weight on, if tiles are loaded ahead. Past the last step, what is loaded is
/// of no use.
#[cube]
#[allow(clippy::too_many_arguments)]
fn load_step<X: Float, S: Float, E: Float, NX: Size, N: Size>(
    ahead: &mut Ahead<E, NX, N>,
    x: &[Vector<X, NX>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    weight: &WeightSizes,
    m: usize,
    place: &ForwardTile,
    k: usize,
    #[comptime] parts: Option<Parts>,
) {
    #[comptime]
    if let Some(parts) = parts {
        let window = window::<NX>(weight, m, place, k);
        load::<X, S, E, NX, N>(
            ahead,
            x,
            &window,
            words,
            scales,
            zero_points,
            weight,
            k,
            place.vector,
            parts,
        );
    }
}

/// Stages the tiles of one step, those that were loaded ahead or else from memory, along `k`, from row `k` of the weight on.
#[cube]
#[allow(clippy::too_many_arguments)]
fn stage<X: Float, S: Float, E: Float, NX: Size, N: Size>(
    ahead: &Ahead<E, NX, N>,
    x: &[Vector<X, NX>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    left: &mut Shared<[Vector<E, NX>]>,
    right: &mut Shared<[Vector<E, N>]>,
    weight: &WeightSizes,
    m: usize,
    place: &ForwardTile,
    k: usize,
    #[comptime] parts: Option<Parts>,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
) {
    #[comptime]
    match parts {
        Some(parts) => put::<E, NX, N>(ahead, left, right, weight, k, place.vector, parts),
        None => {
            let window = window::<NX>(weight, m, place, k);
            stage_matrix::<X, E, NX>(x, left, &window, plan.rows, DEPTH, plan);
            stage_weights::<S, E, N>(
                words,
                scales,
                zero_points,
                right,
                weight,
                k,
                place.vector,
                DEPTH,
                plan.columns,
                plan,
                block,
                aligned,
            );
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn forward_units_kernel<X: Float, S: Float, O: Float, NX: Size, N: Size>(
    x: &[Vector<X, NX>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    bias: ComptimeOption<&[Vector<O, N>]>,
    out: &mut [Vector<O, N>],
    weight: WeightSizes,
    m: usize,
    steps: usize,
    cubes: usize,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
    #[define(X, S, O)] _dtypes: [ElemType; 3],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let width = N::value();
    let x_width = NX::value();
    let left_stride = comptime!(plan.stride(DEPTH) / x_width);
    let right_stride = comptime!(plan.stride(plan.columns) / width);
    let mut left = Shared::<[Vector<f32, NX>]>::new_slice(comptime!(plan.rows * left_stride));
    let mut right = Shared::<[Vector<f32, N>]>::new_slice(comptime!(DEPTH * right_stride));
    let place = ForwardTile::new(&weight, m, steps, comptime!(plan.columns / width), plan);
    let lane = UNIT_POS as usize % plan.across;
    let unit_row = UNIT_POS as usize / plan.across * comptime!(plan.unit_rows());

    let mut sums = Array::<Vector<f32, N>>::new(comptime!(plan.unit_rows()));
    #[unroll]
    for i in 0..comptime!(plan.unit_rows()) {
        sums[i] = Vector::new(0.0f32);
    }
    let parts = comptime!(Parts::new(
        &plan,
        MatmulKind::Forward,
        [x_width, width],
        block,
        aligned
    ));
    let mut ahead = Ahead::<f32, NX, N>::new(parts);
    load_step::<X, S, f32, NX, N>(
        &mut ahead,
        x,
        words,
        scales,
        zero_points,
        &weight,
        m,
        &place,
        place.start,
        parts,
    );
    for k in range_stepped(place.start, place.end, DEPTH) {
        stage::<X, S, f32, NX, N>(
            &ahead,
            x,
            words,
            scales,
            zero_points,
            &mut left,
            &mut right,
            &weight,
            m,
            &place,
            k,
            parts,
            plan,
            block,
            aligned,
        );
        sync_cube();
        let next = k + DEPTH;
        if next < place.end {
            load_step::<X, S, f32, NX, N>(
                &mut ahead,
                x,
                words,
                scales,
                zero_points,
                &weight,
                m,
                &place,
                next,
                parts,
            );
        }
        for d in 0..comptime!(DEPTH / x_width) {
            let mut lefts = Array::<Vector<f32, NX>>::new(comptime!(plan.unit_rows()));
            #[unroll]
            for i in 0..comptime!(plan.unit_rows()) {
                lefts[i] = left[(unit_row + i) * left_stride + d];
            }
            #[unroll]
            for e in 0..x_width {
                let weights = right[(d * x_width + e) * right_stride + lane];
                #[unroll]
                for i in 0..comptime!(plan.unit_rows()) {
                    sums[i] += weights * Vector::new(lefts[i].extract(e));
                }
            }
        }
        sync_cube();
    }

    let vector = place.vector + lane;
    if vector < weight.vectors {
        let mut offset = Vector::<f32, N>::new(0.0);
        #[comptime]
        if let ComptimeOption::Some(bias) = &bias {
            offset = Vector::cast_from(bias[vector]);
        }
        #[unroll]
        for i in 0..comptime!(plan.unit_rows()) {
            let row = place.row + unit_row + i;
            if row < m {
                out[(place.split * m + row) * weight.vectors + vector] =
                    Vector::cast_from(sums[i] + offset);
            }
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn forward_matrix_kernel<X: Float, S: Float, O: Float, NX: Size, N: Size>(
    x: &[Vector<X, NX>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    bias: ComptimeOption<&[Vector<O, N>]>,
    out: &mut [Vector<O, N>],
    weight: WeightSizes,
    m: usize,
    steps: usize,
    cubes: usize,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
    #[define(X, S, O)] _dtypes: [ElemType; 3],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let width = N::value();
    let x_width = NX::value();
    let mut left = Shared::<[Vector<X, NX>]>::new_aligned_slice(
        comptime!(plan.rows * plan.stride(DEPTH) / x_width),
        32usize,
    );
    let mut right = Shared::<[Vector<X, N>]>::new_aligned_slice(
        comptime!(DEPTH * plan.stride(plan.columns) / width),
        32usize,
    );
    let fragment = comptime!(plan.fragment);
    let tile = comptime!(fragment.elements());
    let mut scratch =
        Shared::<[f32]>::new_aligned_slice(comptime!(plan.down * plan.across * tile), 32usize);
    let place = ForwardTile::new(&weight, m, steps, comptime!(plan.columns / width), plan);
    let plane_index = PLANE_POS as usize;
    let plane_row = plane_index / plan.across * comptime!(plan.unit_rows());
    let plane_column = plane_index % plan.across * comptime!(plan.unit_columns());

    let mut sums = zero_sums(plan);
    let parts = comptime!(Parts::new(
        &plan,
        MatmulKind::Forward,
        [x_width, width],
        block,
        aligned
    ));
    let mut ahead = Ahead::<X, NX, N>::new(parts);
    load_step::<X, S, X, NX, N>(
        &mut ahead,
        x,
        words,
        scales,
        zero_points,
        &weight,
        m,
        &place,
        place.start,
        parts,
    );
    for k in range_stepped(place.start, place.end, DEPTH) {
        stage::<X, S, X, NX, N>(
            &ahead,
            x,
            words,
            scales,
            zero_points,
            &mut left,
            &mut right,
            &weight,
            m,
            &place,
            k,
            parts,
            plan,
            block,
            aligned,
        );
        sync_cube();
        let next = k + DEPTH;
        if next < place.end {
            load_step::<X, S, X, NX, N>(
                &mut ahead,
                x,
                words,
                scales,
                zero_points,
                &weight,
                m,
                &place,
                next,
                parts,
            );
        }
        multiply::<X, NX, N>(
            &left,
            &right,
            &mut sums,
            plane_row,
            plane_column,
            DEPTH,
            plan.columns,
            MatrixLayout::RowMajor,
            MatrixLayout::RowMajor,
            plan,
        );
        sync_cube();
    }

    let tile_vectors = comptime!(fragment.n / width);
    let (down, across) = comptime!(plan.fragments());
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
            for at in range_stepped(
                UNIT_POS_PLANE as usize,
                comptime!(fragment.m * tile_vectors),
                fragment.plane,
            ) {
                let row = place.row + plane_row + comptime!(i * fragment.m) + at / tile_vectors;
                let vector = place.vector
                    + (plane_column + comptime!(j * fragment.n)) / width
                    + at % tile_vectors;
                if row < m && vector < weight.vectors {
                    let mut sum = Vector::<f32, N>::new(0.0);
                    #[unroll]
                    for e in 0..width {
                        sum.insert(e, scratch[plane_index * tile + at * width + e]);
                    }
                    #[comptime]
                    if let ComptimeOption::Some(bias) = &bias {
                        sum += Vector::<f32, N>::cast_from(bias[vector]);
                    }
                    out[(place.split * m + row) * weight.vectors + vector] = Vector::cast_from(sum);
                }
            }
            sync_cube();
        }
    }
}
