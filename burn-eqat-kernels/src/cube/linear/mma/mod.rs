//! Launch of the kernel that feeds matrix units from registers.

mod codes;
pub(in crate::cube) mod kernel;

use crate::cube::limits::elem;
use crate::cube::plan::mma::{CODES, MmaPlan, MmaSplit};
use crate::cube::reduce::Ranges;
use crate::cube::tensors::{cube_count, dims};
use crate::cube::weight::{DeviceWeight, ZeroPoints};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use kernel::mma_kernel;

/// Elements of one load of the input: half of a unit's part of a step.
pub(in crate::cube) const INPUT_WIDTH: usize = CODES / 2;

/// `x [m, k]` times the weight plus `bias [n]`, by `plan`, in the type of `x`.
pub(crate) fn mma(
    x: CubeTensor,
    weight: &DeviceWeight,
    bias: Option<CubeTensor>,
    (plan, split): (MmaPlan, MmaSplit),
) -> CubeTensor {
    let dtype = x.dtype;
    let ([m, _], n) = (dims(&x), weight.problem.n);
    let mut ranges = Ranges::new(&x, [m, n], split.splits, bias);
    let out = &ranges.out;
    let (numbers, words) = match weight.zero_points.clone() {
        ZeroPoints::Numbers(numbers) => (Some(numbers), None),
        ZeroPoints::Words(words) => (None, Some(words)),
    };
    let cubes = plan.cubes(m, weight.vectors()) * split.splits;
    // SAFETY: cubes past `cubes` return; rows and columns past the last are not written, and loads stay within the operands.
    unsafe {
        mma_kernel::launch_unchecked(
            &out.client,
            cube_count(cubes, &weight.limits),
            CubeDim::new_1d(plan.units() as u32),
            INPUT_WIDTH,
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
            plan.codes.exponents(),
            split.runs,
            split.chunks,
            cubes,
            plan,
            [elem(dtype), elem(weight.scales.dtype), elem(out.dtype)],
        );
    }
    ranges.add_up(weight.width)
}
