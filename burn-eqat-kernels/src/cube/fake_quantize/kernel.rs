//! Fake quantization and its gradients, one pass over the weight each.
//!
//! - Supports: every bit width, group size and shape; any float type of the device, computed in f32.
//! - Refuses: nothing; what the device lacks is refused before the launch.
//! - Work: forward, one unit takes up to [`ROWS`] rows of one group in one column vector. Backward, a
//!   cube takes a chunk of a group in some column vectors, see [`crate::cube::plan::group::GroupPlan`].

use crate::cube::group::{Chunks, UnitRows, finish};
use crate::cube::plan::group::GroupCube;
use crate::cube::words::WeightSizes;
use crate::{SCALE_MAX, SCALE_MIN};
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Rows that a unit of the forward kernel takes, at most.
pub(crate) const ROWS: usize = 8;

/// What a group is quantized to.
#[derive(CubeType, Clone, Copy)]
struct Grid<N: Size> {
    scale: Vector<f32, N>,
    zero: Vector<f32, N>,
    max_code: Vector<f32, N>,
}

#[cube]
impl<N: Size> Grid<N> {
    fn load<F: Float>(
        s: &[Vector<F, N>],
        z: &[Vector<F, N>],
        at: usize,
        #[comptime] max_code: u32,
    ) -> Grid<N> {
        let max_code = Vector::<f32, N>::new(comptime!(max_code as f32));
        let low = Vector::<f32, N>::new(comptime!(SCALE_MIN as f32));
        let high = Vector::<f32, N>::new(comptime!(SCALE_MAX as f32));
        let zero = Vector::<f32, N>::cast_from(z[at]).round();
        Grid::<N> {
            scale: Vector::<f32, N>::cast_from(s[at]).max(low).min(high),
            zero: zero.max(Vector::new(0.0f32)).min(max_code),
            max_code,
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn fake_quantize_kernel<W: Float, S: Float, N: Size>(
    w: &[Vector<W, N>],
    s: &[Vector<S, N>],
    z: &[Vector<S, N>],
    out: &mut [Vector<W, N>],
    weight: WeightSizes,
    pieces: usize,
    total: usize,
    #[comptime] max_code: u32,
    #[define(W, S)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    let column = ABSOLUTE_POS % weight.vectors;
    let piece = ABSOLUTE_POS / weight.vectors;
    let group = piece / pieces;
    let grid = Grid::<N>::load::<S>(s, z, group * weight.vectors + column, max_code);
    let start = group * weight.group + piece % pieces * ROWS;
    let end = (group + 1) * weight.group;
    #[unroll]
    for i in 0..ROWS {
        let row = start + i;
        if row < end {
            let at = row * weight.vectors + column;
            let ratio = Vector::<f32, N>::cast_from(w[at]) / grid.scale;
            let code = (ratio.round() + grid.zero)
                .max(Vector::new(0.0f32))
                .min(grid.max_code);
            out[at] = Vector::cast_from((code - grid.zero) * grid.scale);
        }
    }
}

/// The gradients of the paper's equations 3 to 5; the sums for `s` and `z` go to
/// `[groups * chunks, n]`.
#[cube(launch_unchecked)]
pub(crate) fn fake_quantize_backward_kernel<W: Float, S: Float, N: Size>(
    w: &[Vector<W, N>],
    s: &[Vector<S, N>],
    z: &[Vector<S, N>],
    grad: &[Vector<W, N>],
    dw: &mut [Vector<W, N>],
    ds: &mut [Vector<f32, N>],
    dz: &mut [Vector<f32, N>],
    weight: WeightSizes,
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
    let place = UnitRows::new(&weight, &chunks, cube);

    let zeros = Vector::<f32, N>::new(0.0);
    let ones = Vector::<f32, N>::new(1.0);
    let mut sum_s = zeros;
    let mut sum_z = zeros;
    if place.column < weight.vectors {
        let grid =
            Grid::<N>::load::<S>(s, z, place.group * weight.vectors + place.column, max_code);
        for row in range_stepped(place.start + place.slice, place.end, cube.slices) {
            let at = row * weight.vectors + place.column;
            let g = Vector::<f32, N>::cast_from(grad[at]);
            let ratio = Vector::<f32, N>::cast_from(w[at]) / grid.scale;
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
        &weight,
        cube,
    );
}
