//! Adds up partial sums, and a bias.
//!
//! - Supports: f32 sums, outputs and bias in any float type of the device.
//! - Refuses: nothing.
//! - Work: one unit adds up one column vector of one row of the output, in a fixed order.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// `out[row, column] = bias[column] + sum over part of partial[row * row_stride + part * part_stride
/// + column]`, strides in vectors.
#[cube(launch_unchecked)]
pub(crate) fn reduce_kernel<O: Float, N: Size>(
    partial: &[Vector<f32, N>],
    bias: ComptimeOption<&[Vector<O, N>]>,
    out: &mut [Vector<O, N>],
    vectors: usize,
    parts: usize,
    row_stride: usize,
    part_stride: usize,
    total: usize,
    #[define(O)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    let row = ABSOLUTE_POS / vectors;
    let column = ABSOLUTE_POS % vectors;
    let mut sum = Vector::<f32, N>::new(0.0);
    for part in 0..parts {
        sum += partial[row * row_stride + part * part_stride + column];
    }
    #[comptime]
    if let ComptimeOption::Some(bias) = bias {
        sum += Vector::<f32, N>::cast_from(bias[column]);
    }
    out[ABSOLUTE_POS] = Vector::cast_from(sum);
}
