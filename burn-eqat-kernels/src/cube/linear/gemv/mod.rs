//! Launch of the matrix-vector kernel.

pub(in crate::cube) mod kernel;

use crate::cube::limits::elem;
use crate::cube::plan::gemv::GemvPlan;
use crate::cube::reduce::Ranges;
use crate::cube::tensors::{cube_count, dims};
use crate::cube::weight::{DeviceWeight, ZeroPoints};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use kernel::gemv_kernel;

/// `x [m, k]` times the weight plus `bias [n]`, by `plan`, in the type of `x`.
pub(crate) fn gemv(
    x: CubeTensor,
    weight: &DeviceWeight,
    bias: Option<CubeTensor>,
    plan: GemvPlan,
) -> CubeTensor {
    let dtype = x.dtype;
    let ([m, _], n) = (dims(&x), weight.problem.n);
    let mut ranges = Ranges::new(&x, [m, n], plan.splits, bias);
    let out = &ranges.out;
    // Words are read where a run of blocks has one zero point.
    let (numbers, words) = match &weight.zero_points {
        ZeroPoints::Words(words) if plan.aligned => (None, Some(words.clone())),
        _ => (Some(weight.zero_points()), None),
    };
    let cubes = weight.vectors().div_ceil(plan.lanes) * plan.splits;
    // SAFETY: cubes past `cubes` return; rows, columns and words past the last are not touched.
    unsafe {
        gemv_kernel::launch_unchecked(
            &out.client,
            cube_count(cubes, &weight.limits),
            CubeDim::new_1d(plan.units() as u32),
            weight.width,
            x.into_buffer_arg(),
            weight.codes.clone().into_buffer_arg(),
            weight.scales.clone().into_buffer_arg(),
            numbers.map(CubeTensor::into_buffer_arg).into(),
            words.map(CubeTensor::into_buffer_arg).into(),
            ranges.bias.take().map(CubeTensor::into_buffer_arg).into(),
            out.clone().into_buffer_arg(),
            weight.sizes(),
            m,
            cubes,
            plan,
            weight.problem.block(),
            [elem(dtype), elem(weight.scales.dtype), elem(out.dtype)],
        );
    }
    ranges.add_up(weight.width)
}
