//! Launch of the matrix-vector kernel.

mod kernel;

use super::limits::elem;
use super::reduce::{Parts, reduce};
use super::tensors::{cube_count, dims, empty};
use super::weight::PackedWeight;
use crate::cube::plan::GemvPlan;
use burn::tensor::DType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use kernel::gemv_kernel;

/// `x [m, k]` times the weight plus `bias [n]`, by `plan`, in the type of `x`.
pub(crate) fn gemv(
    x: CubeTensor,
    weight: &PackedWeight,
    bias: Option<CubeTensor>,
    plan: GemvPlan,
) -> CubeTensor {
    let dtype = x.dtype;
    let ([m, _], n) = (dims(&x), weight.problem.n);
    // Sums of ranges stay in f32 and get the bias when they are added up.
    let whole = plan.splits == 1;
    let (out_dtype, bias, late_bias) = match whole {
        true => (dtype, bias, None),
        false => (DType::F32, None, bias),
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
            weight.words.clone().into_buffer_arg(),
            weight.s.clone().into_buffer_arg(),
            weight.z.clone().into_buffer_arg(),
            bias.map(CubeTensor::into_buffer_arg).into(),
            out.clone().into_buffer_arg(),
            weight.sizes(),
            m,
            cubes,
            plan,
            weight.problem.block(),
            [elem(dtype), elem(weight.s.dtype), elem(out_dtype)],
        );
    }
    match whole {
        true => out,
        false => reduce(
            out,
            [m, n],
            Parts::Outer(plan.splits),
            late_bias,
            dtype,
            weight.width,
        ),
    }
}
