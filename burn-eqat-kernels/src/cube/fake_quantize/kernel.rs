//! Fake quantization and its gradients, each in one pass over the weight.
//!
//! - Supports: every bit width, group size and shape; any float type of the device, computed in f32.
//! - Refuses: nothing; the caller checks the device's types and limits before the launch.
//! - Work: forward, one unit takes up to [`ROWS`] rows of one group in one column vector. Backward, a
//!   cube takes a chunk of a group in some column vectors, see [`crate::cube::plan::group::GroupPlan`].

use crate::cube::group::{Chunks, UnitRows, finish};
use crate::cube::plan::group::GroupCube;
use crate::cube::words::WeightSizes;
use crate::{SCALE_MAX, SCALE_MIN};
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The most rows of one unit of the forward kernel.
pub(crate) const ROWS: usize = 8;

/// The quantization grid of a group.
#[derive(CubeType, Clone, Copy)]
struct Grid<N: Size> {
    scale: Vector<f32, N>,
    zero: Vector<f32, N>,
    max_code: Vector<f32, N>,
}

#[cube]
impl<N: Size> Grid<N> {
    fn load<F: Float>(
        scales: &[Vector<F, N>],
        zero_points: &[Vector<F, N>],
        at: usize,
        #[comptime] max_code: u32,
    ) -> Grid<N> {
        let max_code = Vector::<f32, N>::new(comptime!(max_code as f32));
        let low = Vector::<f32, N>::new(comptime!(SCALE_MIN as f32));
        let high = Vector::<f32, N>::new(comptime!(SCALE_MAX as f32));
        let zero = Vector::<f32, N>::cast_from(zero_points[at]).round();
        Grid::<N> {
            scale: Vector::<f32, N>::cast_from(scales[at]).max(low).min(high),
            zero: zero.max(Vector::new(0.0f32)).min(max_code),
            max_code,
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn fake_quantize_kernel<W: Float, S: Float, N: Size>(
    weight: &[Vector<W, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    out: &mut [Vector<W, N>],
    sizes: WeightSizes,
    pieces: usize,
    total: usize,
    #[comptime] max_code: u32,
    #[define(W, S)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    let column = ABSOLUTE_POS % sizes.vectors;
    let piece = ABSOLUTE_POS / sizes.vectors;
    let group = piece / pieces;
    let grid = Grid::<N>::load::<S>(
        scales,
        zero_points,
        group * sizes.vectors + column,
        max_code,
    );
    let start = group * sizes.group + piece % pieces * ROWS;
    let end = (group + 1) * sizes.group;
    #[unroll]
    for i in 0..ROWS {
        let row = start + i;
        if row < end {
            let at = row * sizes.vectors + column;
            let ratio = Vector::<f32, N>::cast_from(weight[at]) / grid.scale;
            let code = (ratio.round() + grid.zero)
                .max(Vector::new(0.0f32))
                .min(grid.max_code);
            out[at] = Vector::cast_from((code - grid.zero) * grid.scale);
        }
    }
}

/// The gradients of the paper's equations 3 to 5. The sums for step sizes and zero points go to
/// `[groups * chunks, n]`.
#[cube(launch_unchecked)]
pub(crate) fn fake_quantize_backward_kernel<W: Float, S: Float, N: Size>(
    weight: &[Vector<W, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    grad: &[Vector<W, N>],
    dw: &mut [Vector<W, N>],
    ds: &mut [Vector<f32, N>],
    dz: &mut [Vector<f32, N>],
    sizes: WeightSizes,
    chunks: Chunks,
    cubes: usize,
    #[comptime] cube: GroupCube,
    #[comptime] max_code: u32,
    #[define(W, S)] _dtypes: [ElemType; 2],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let mut shared_s = Shared::<[Vector<f32, N>]>::new_slice(cube.units());
    let mut shared_z = Shared::<[Vector<f32, N>]>::new_slice(cube.units());
    let place = UnitRows::new(&sizes, &chunks, cube);

    let zeros = Vector::<f32, N>::new(0.0);
    let ones = Vector::<f32, N>::new(1.0);
    let mut sum_s = zeros;
    let mut sum_z = zeros;
    if place.column < sizes.vectors {
        let grid = Grid::<N>::load::<S>(
            scales,
            zero_points,
            place.group * sizes.vectors + place.column,
            max_code,
        );
        for row in range_stepped(place.start + place.slice, place.end, cube.slices) {
            let at = row * sizes.vectors + place.column;
            let g = Vector::<f32, N>::cast_from(grad[at]);
            let ratio = Vector::<f32, N>::cast_from(weight[at]) / grid.scale;
            let code = ratio.round() + grid.zero;
            let clamped = code.max(zeros).min(grid.max_code);
            // A code that the clamp leaves alone lets the gradient through.
            let inside = select_many(code.equal(&clamped), ones, zeros);
            let through = g * inside;
            dw[at] = Vector::cast_from(through);
            sum_s += g * (clamped - grid.zero - inside * ratio);
            sum_z += through - g;
        }
        sum_z *= grid.scale;
    }
    finish::<N>(
        &mut shared_s,
        &mut shared_z,
        sum_s,
        sum_z,
        ds,
        dz,
        &place,
        &sizes,
        cube,
    );
}
