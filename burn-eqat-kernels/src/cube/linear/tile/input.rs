//! The gradient by the input: `dx = dy W^T`, from the packed words.
//!
//! - Supports and refuses: as the forward matmul.
//! - Work: a cube computes one tile of `dx`, from one range of the weight's columns if there are several. It
//!   steps along the columns, and stages a tile of `dy` and a tile of unpacked weights, neither transposed. A
//!   unit multiplies vectors along the columns, and adds up their lanes at the end; the matrix units read the
//!   weights transposed.

use super::ahead::{Ahead, Parts, load, put};
use super::matrix::{multiply, spread, zero_sums};
use super::stage::{Window, stage_matrix, stage_weights};
use crate::block::Block;
use crate::cube::plan::tile::{DEPTH, MatmulKind, TilePlan};
use crate::cube::words::WeightSizes;
use burn_cubecl::cubecl;
use cubecl::cmma::MatrixLayout;
use cubecl::prelude::*;

/// The part of the output of a cube: its first row and column, and its range of column vectors.
#[derive(CubeType, Clone, Copy)]
struct InputTile {
    row: usize,
    column: usize,
    split: usize,
    start: usize,
    end: usize,
}

#[cube]
impl InputTile {
    /// Cubes run over column tiles first, then over row tiles, then over ranges.
    fn new(
        weight: &WeightSizes,
        m: usize,
        steps: usize,
        #[comptime] step_vectors: usize,
        #[comptime] plan: TilePlan,
    ) -> InputTile {
        let across = weight.rows.div_ceil(plan.columns);
        let down = m.div_ceil(plan.rows);
        let split = CUBE_POS / (across * down);
        let start = split * steps * step_vectors;
        InputTile {
            row: CUBE_POS / across % down * plan.rows,
            column: CUBE_POS % across * plan.columns,
            split,
            start,
            end: (start + steps * step_vectors).min(weight.vectors),
        }
    }
}

/// The part of the input for the step from column vector `vector` on.
#[cube]
fn window(weight: &WeightSizes, m: usize, place: &InputTile, vector: usize) -> Window {
    Window {
        row: place.row,
        rows: m,
        vector,
        vectors: weight.vectors,
        stride: weight.vectors,
    }
}

/// Loads the tiles of the step from column vector `vector` on, if tiles are loaded ahead. Past the last step, what is loaded is
/// of no use.
#[cube]
#[allow(clippy::too_many_arguments)]
fn load_step<G: Float, S: Float, E: Float, N: Size>(
    ahead: &mut Ahead<E, N, N>,
    grad: &[Vector<G, N>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    weight: &WeightSizes,
    m: usize,
    place: &InputTile,
    vector: usize,
    #[comptime] parts: Option<Parts>,
) {
    #[comptime]
    if let Some(parts) = parts {
        let window = window(weight, m, place, vector);
        load::<G, S, E, N, N>(
            ahead,
            grad,
            &window,
            words,
            scales,
            zero_points,
            weight,
            place.column,
            vector,
            parts,
        );
    }
}

/// Stages the tiles of one step: those that were loaded ahead, or else as they are loaded,, from column vector `vector` on.
#[cube]
#[allow(clippy::too_many_arguments)]
fn stage<G: Float, S: Float, E: Float, N: Size>(
    ahead: &Ahead<E, N, N>,
    grad: &[Vector<G, N>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    left: &mut Shared<[Vector<E, N>]>,
    right: &mut Shared<[Vector<E, N>]>,
    weight: &WeightSizes,
    m: usize,
    place: &InputTile,
    vector: usize,
    #[comptime] parts: Option<Parts>,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
) {
    #[comptime]
    match parts {
        Some(parts) => put::<E, N, N>(ahead, left, right, weight, place.column, vector, parts),
        None => {
            let window = window(weight, m, place, vector);
            stage_matrix::<G, E, N>(grad, left, &window, plan.rows, DEPTH, plan);
            stage_weights::<S, E, N>(
                words,
                scales,
                zero_points,
                right,
                weight,
                place.column,
                vector,
                plan.columns,
                DEPTH,
                plan,
                block,
                aligned,
            );
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn input_units_kernel<G: Float, S: Float, O: Float, N: Size>(
    grad: &[Vector<G, N>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    out: &mut [O],
    weight: WeightSizes,
    m: usize,
    steps: usize,
    cubes: usize,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
    #[define(G, S, O)] _dtypes: [ElemType; 3],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let width = N::value();
    let step_vectors = comptime!(DEPTH / width);
    let stride = comptime!(plan.stride(DEPTH) / width);
    let mut left = Shared::<[Vector<f32, N>]>::new_slice(comptime!(plan.rows * stride));
    let mut right = Shared::<[Vector<f32, N>]>::new_slice(comptime!(plan.columns * stride));
    let place = InputTile::new(&weight, m, steps, step_vectors, plan);
    let (rows, columns) = comptime!((plan.unit_rows(), plan.unit_columns()));
    let unit_row = UNIT_POS as usize / plan.across * rows;
    // Neighbouring units take neighbouring columns.
    let lane = UNIT_POS as usize % plan.across;

    let mut sums = Array::<Vector<f32, N>>::new(comptime!(rows * columns));
    #[unroll]
    for i in 0..comptime!(rows * columns) {
        sums[i] = Vector::new(0.0f32);
    }
    let parts = comptime!(Parts::new(
        &plan,
        MatmulKind::InputGradient,
        [width, width],
        block,
        aligned
    ));
    let mut ahead = Ahead::<f32, N, N>::new(parts);
    load_step::<G, S, f32, N>(
        &mut ahead,
        grad,
        words,
        scales,
        zero_points,
        &weight,
        m,
        &place,
        place.start,
        parts,
    );
    for vector in range_stepped(place.start, place.end, step_vectors) {
        stage::<G, S, f32, N>(
            &ahead,
            grad,
            words,
            scales,
            zero_points,
            &mut left,
            &mut right,
            &weight,
            m,
            &place,
            vector,
            parts,
            plan,
            block,
            aligned,
        );
        sync_cube();
        let next = vector + step_vectors;
        if next < place.end {
            load_step::<G, S, f32, N>(
                &mut ahead,
                grad,
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
        for d in 0..step_vectors {
            let mut lefts = Array::<Vector<f32, N>>::new(rows);
            #[unroll]
            for i in 0..rows {
                lefts[i] = left[(unit_row + i) * stride + d];
            }
            #[unroll]
            for j in 0..columns {
                let weights = right[(lane + comptime!(j * plan.across)) * stride + d];
                #[unroll]
                for i in 0..rows {
                    sums[comptime!(i * columns + j)] += lefts[i] * weights;
                }
            }
        }
        sync_cube();
    }

    #[unroll]
    for i in 0..rows {
        let row = place.row + unit_row + i;
        #[unroll]
        for j in 0..columns {
            let column = place.column + lane + comptime!(j * plan.across);
            if row < m && column < weight.rows {
                let vector = sums[comptime!(i * columns + j)];
                let mut sum = 0.0f32;
                #[unroll]
                for e in 0..N::value() {
                    sum += vector.extract(e);
                }
                out[(place.split * m + row) * weight.rows + column] = O::cast_from(sum);
            }
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn input_matrix_kernel<G: Float, S: Float, O: Float, N: Size>(
    grad: &[Vector<G, N>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    out: &mut [O],
    weight: WeightSizes,
    m: usize,
    steps: usize,
    cubes: usize,
    #[comptime] plan: TilePlan,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
    #[define(G, S, O)] _dtypes: [ElemType; 3],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let width = N::value();
    let step_vectors = comptime!(DEPTH / width);
    let stride = comptime!(plan.stride(DEPTH) / width);
    let mut left =
        Shared::<[Vector<G, N>]>::new_aligned_slice(comptime!(plan.rows * stride), 32usize);
    let mut right =
        Shared::<[Vector<G, N>]>::new_aligned_slice(comptime!(plan.columns * stride), 32usize);
    let fragment = comptime!(plan.fragment);
    let tile = comptime!(fragment.elements());
    let mut scratch =
        Shared::<[f32]>::new_aligned_slice(comptime!(plan.down * plan.across * tile), 32usize);
    let place = InputTile::new(&weight, m, steps, step_vectors, plan);
    let plane_index = PLANE_POS as usize;
    let plane_row = plane_index / plan.across * comptime!(plan.unit_rows());
    let plane_column = plane_index % plan.across * comptime!(plan.unit_columns());

    let mut sums = zero_sums(plan);
    let parts = comptime!(Parts::new(
        &plan,
        MatmulKind::InputGradient,
        [width, width],
        block,
        aligned
    ));
    let mut ahead = Ahead::<G, N, N>::new(parts);
    load_step::<G, S, G, N>(
        &mut ahead,
        grad,
        words,
        scales,
        zero_points,
        &weight,
        m,
        &place,
        place.start,
        parts,
    );
    for vector in range_stepped(place.start, place.end, step_vectors) {
        stage::<G, S, G, N>(
            &ahead,
            grad,
            words,
            scales,
            zero_points,
            &mut left,
            &mut right,
            &weight,
            m,
            &place,
            vector,
            parts,
            plan,
            block,
            aligned,
        );
        sync_cube();
        let next = vector + step_vectors;
        if next < place.end {
            load_step::<G, S, G, N>(
                &mut ahead,
                grad,
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
        multiply::<G, N, N>(
            &left,
            &right,
            &mut sums,
            plane_row,
            plane_column,
            DEPTH,
            DEPTH,
            MatrixLayout::RowMajor,
            MatrixLayout::ColMajor,
            plan,
        );
        sync_cube();
    }

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
            for at in range_stepped(UNIT_POS_PLANE as usize, tile, fragment.plane) {
                let row = place.row + plane_row + comptime!(i * fragment.m) + at / fragment.n;
                let column =
                    place.column + plane_column + comptime!(j * fragment.n) + at % fragment.n;
                if row < m && column < weight.rows {
                    out[(place.split * m + row) * weight.rows + column] =
                        O::cast_from(scratch[plane_index * tile + at]);
                }
            }
            sync_cube();
        }
    }
}
