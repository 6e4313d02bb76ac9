//! Launch of the matrix-vector kernel.

pub(in crate::cube) mod kernel;

use crate::cube::limits::elem;
use crate::cube::plan::gemv::GemvPlan;
use crate::cube::reduce::{Parts, reduce};
use crate::cube::tensors::{cube_count, dims, empty};
use crate::cube::weight::{DeviceWeight, ZeroPoints};
use burn::tensor::DType;
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
    // Sums of ranges stay in f32 and get the bias when they are added up.
    let whole = plan.splits == 1;
    let (out_dtype, bias, late_bias) = if whole {
        (dtype, bias, None)
    } else {
        (DType::F32, None, bias)
    };
    // Words are read where a run of blocks has one zero point.
    let (numbers, words) = match &weight.zero_points {
        ZeroPoints::Words(words) if plan.aligned => (None, Some(words.clone())),
        _ => (Some(weight.zero_points()), None),
    };
    let out = empty(&x, [plan.splits * m, n], out_dtype);
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
            bias.map(CubeTensor::into_buffer_arg).into(),
            out.clone().into_buffer_arg(),
            weight.sizes(),
            m,
            cubes,
            plan,
            weight.problem.block(),
            [elem(dtype), elem(weight.scales.dtype), elem(out_dtype)],
        );
    }
    if whole {
        return out;
    }
    let parts = Parts::Outer(plan.splits);
    reduce(out, [m, n], parts, late_bias, dtype, weight.width)
}
