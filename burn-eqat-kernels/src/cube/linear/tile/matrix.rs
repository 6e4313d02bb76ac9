//! The tiled matmuls on matrix units: a plane multiplies its part of the staged tiles.

use crate::cube::plan::tile::{DEPTH, TilePlan};
use burn_cubecl::cubecl;
use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

/// The sums of a plane, row by row of fragments, all zero.
#[cube]
pub(crate) fn zero_sums(#[comptime] plan: TilePlan) -> Sequence<Matrix<f32>> {
    let mut sums = Sequence::<Matrix<f32>>::new();
    let (down, across) = comptime!(plan.fragments());
    let fragment = comptime!(plan.fragment);
    #[unroll]
    for _ in 0..comptime!(down * across) {
        sums.push(Matrix::<f32>::from_value(
            MatrixIdent::Accumulator,
            fragment.m,
            fragment.n,
            fragment.k,
            MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    sums
}

/// Adds the matmul of two staged tiles to the plane's sums.
///
/// The left tile is `[rows, depth]`, or `[depth, rows]` if `left` is column-major. The right one is
/// `[depth, columns]`, or `[columns, depth]` if `right` is column-major.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn multiply<E: Float, NA: Size, NB: Size>(
    left: &Shared<[Vector<E, NA>]>,
    right: &Shared<[Vector<E, NB>]>,
    sums: &mut Sequence<Matrix<f32>>,
    plane_row: usize,
    plane_column: usize,
    #[comptime] left_len: usize,
    #[comptime] right_len: usize,
    #[comptime] left_layout: MatrixLayout,
    #[comptime] right_layout: MatrixLayout,
    #[comptime] plan: TilePlan,
) {
    let (down, across) = comptime!(plan.fragments());
    let fragment = comptime!(plan.fragment);
    let left_stride = comptime!(plan.stride(left_len));
    let right_stride = comptime!(plan.stride(right_len));
    #[unroll]
    for step in 0..comptime!(DEPTH / fragment.k) {
        let depth = comptime!(step * fragment.k);
        let mut lefts = Sequence::<Matrix<Vector<E, NA>>>::new();
        #[unroll]
        for i in 0..down {
            let row = plane_row + comptime!(i * fragment.m);
            let start = match comptime!(left_layout) {
                MatrixLayout::ColMajor => depth * left_stride + row,
                _ => row * left_stride + depth,
            };
            lefts.push(Matrix::<Vector<E, NA>>::from_slice(
                MatrixIdent::A,
                fragment.m,
                fragment.n,
                fragment.k,
                left_layout,
                &left[start / NA::value()..left.len()],
                comptime!(left_stride as u32),
            ));
        }
        #[unroll]
        for j in 0..across {
            let column = plane_column + comptime!(j * fragment.n);
            let start = match comptime!(right_layout) {
                MatrixLayout::ColMajor => column * right_stride + depth,
                _ => depth * right_stride + column,
            };
            let part = Matrix::<Vector<E, NB>>::from_slice(
                MatrixIdent::B,
                fragment.m,
                fragment.n,
                fragment.k,
                right_layout,
                &right[start / NB::value()..right.len()],
                comptime!(right_stride as u32),
            );
            #[unroll]
            for i in 0..down {
                let sum = sums.index(comptime!(i * across + j));
                cmma::execute(lefts.index(i), &part, sum, sum);
            }
        }
    }
}

/// Writes one fragment of sums to the plane's `scratch`, in rows.
#[cube]
pub(crate) fn spread(
    scratch: &mut Shared<[f32]>,
    sum: &Matrix<f32>,
    plane_index: usize,
    #[comptime] plan: TilePlan,
) {
    let elements = comptime!(plan.fragment.elements());
    let start = plane_index * elements;
    cmma::store(
        &mut scratch[start..start + elements],
        sum,
        comptime!(plan.fragment.n as u32),
        MatrixLayout::RowMajor,
    );
}
