//! Launches of the tiled matmuls.

mod ahead;
pub(in crate::cube) mod forward;
pub(in crate::cube) mod input;
mod matrix;
pub(in crate::cube) mod scale;
mod stage;

use crate::cube::limits::elem;
use crate::cube::plan::limits::Limits;
use crate::cube::plan::sizes::vector_width;
use crate::cube::plan::tile::{Engine, MatmulKind, TilePlan};
use crate::cube::reduce::{Ranges, chunk_sums};
use crate::cube::tensors::{cube_count, dims, empty};
use crate::cube::weight::DeviceWeight;
use burn::tensor::DType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use forward::{forward_matrix_kernel, forward_units_kernel};
use input::{input_matrix_kernel, input_units_kernel};
use scale::{scale_matrix_kernel, scale_units_kernel};

/// Launches the kernel of an engine. The kernels of both engines have the same arguments.
macro_rules! launch_by {
    ($engine:expr, $units:ident, $matrix:ident, ($($argument:expr),* $(,)?)) => {
        match $engine {
            Engine::Units => $units::launch_unchecked($($argument),*),
            Engine::Matrix => $matrix::launch_unchecked($($argument),*),
        }
    };
}

/// The most elements of one load of the input: 16 bytes if there are such vectors, and never more than the
/// skew of a tile's rows.
pub(in crate::cube) fn load_width(dtype: DType, limits: &Limits) -> usize {
    (16 / dtype.size()).min(limits.widest).min(8)
}

/// `x [m, k]` times the weight plus `bias [n]`, in the type of `x`. `None` if the device does not support the
/// engine.
pub(crate) fn forward(
    x: CubeTensor,
    weight: &DeviceWeight,
    bias: Option<CubeTensor>,
    engine: Engine,
) -> Option<CubeTensor> {
    let (problem, limits) = (&weight.problem, &weight.limits);
    let dtype = x.dtype;
    let [m, k] = dims(&x);
    let sizes = [m, problem.n, k];
    let plan = TilePlan::new(engine, MatmulKind::Forward, sizes, weight.width, limits)?;
    let x_width = vector_width(k, load_width(dtype, limits));
    let mut ranges = Ranges::new(&x, [m, problem.n], plan.splits, bias);
    let out = &ranges.out;
    let cubes = m.div_ceil(plan.rows) * problem.n.div_ceil(plan.columns) * plan.splits;
    // SAFETY: cubes past `cubes` return; tiles are staged with zeros past their matrices and written
    // only inside of the output.
    unsafe {
        launch_by!(
            engine,
            forward_units_kernel,
            forward_matrix_kernel,
            (
                &out.client,
                cube_count(cubes, limits),
                CubeDim::new_1d(plan.units() as u32),
                x_width,
                weight.width,
                x.into_buffer_arg(),
                weight.codes.clone().into_buffer_arg(),
                weight.scales.clone().into_buffer_arg(),
                weight.zero_points().into_buffer_arg(),
                ranges.bias.take().map(CubeTensor::into_buffer_arg).into(),
                out.clone().into_buffer_arg(),
                weight.sizes(),
                m,
                plan.steps(k),
                cubes,
                plan,
                problem.block(),
                problem.aligned(),
                [elem(dtype), elem(weight.scales.dtype), elem(out.dtype)],
            )
        );
    }
    Some(ranges.add_up(weight.width))
}

/// The gradient by the input from `grad [m, n]`: `[m, k]`, in the type of `grad`. `None` if the device does
/// not support the engine.
pub(crate) fn input(grad: CubeTensor, weight: &DeviceWeight, engine: Engine) -> Option<CubeTensor> {
    let (problem, limits) = (&weight.problem, &weight.limits);
    let dtype = grad.dtype;
    let [m, n] = dims(&grad);
    let k = problem.k;
    let plan = TilePlan::new(
        engine,
        MatmulKind::InputGradient,
        [m, k, n],
        weight.width,
        limits,
    )?;
    let ranges = Ranges::new(&grad, [m, k], plan.splits, None);
    let out = &ranges.out;
    let cubes = m.div_ceil(plan.rows) * k.div_ceil(plan.columns) * plan.splits;
    // SAFETY: as in `forward`.
    unsafe {
        launch_by!(
            engine,
            input_units_kernel,
            input_matrix_kernel,
            (
                &out.client,
                cube_count(cubes, limits),
                CubeDim::new_1d(plan.units() as u32),
                weight.width,
                grad.into_buffer_arg(),
                weight.codes.clone().into_buffer_arg(),
                weight.scales.clone().into_buffer_arg(),
                weight.zero_points().into_buffer_arg(),
                out.clone().into_buffer_arg(),
                weight.sizes(),
                m,
                plan.steps(n),
                cubes,
                plan,
                problem.block(),
                problem.aligned(),
                [elem(dtype), elem(weight.scales.dtype), elem(out.dtype)],
            )
        );
    }
    Some(ranges.add_up(vector_width(k, limits.vector)))
}

/// The gradients by step sizes and zero points, `[groups, n]` in the type of the step sizes, from `x [m, k]` and
/// `grad [m, n]` of one type. `None` if the device does not support the engine.
pub(crate) fn scale(
    x: CubeTensor,
    grad: CubeTensor,
    weight: &DeviceWeight,
    engine: Engine,
) -> Option<(CubeTensor, CubeTensor)> {
    let (problem, limits) = (&weight.problem, &weight.limits);
    let ([m, _], n, groups) = (dims(&x), problem.n, problem.groups);
    let group = problem.group();
    let plan = TilePlan::new(
        engine,
        MatmulKind::ScaleGradient,
        [group, n, m],
        weight.width,
        limits,
    )?;
    let chunks = group.div_ceil(plan.rows);
    // Groups begin and end at whole vectors of the input.
    let x_width = vector_width(group, load_width(x.dtype, limits));
    let ds = empty(&grad, [groups * chunks, n], DType::F32);
    let dz = empty(&grad, [groups * chunks, n], DType::F32);
    let cubes = groups * chunks * n.div_ceil(plan.columns);
    let dtypes = [elem(x.dtype), elem(weight.scales.dtype)];
    // SAFETY: as in `forward`.
    unsafe {
        launch_by!(
            engine,
            scale_units_kernel,
            scale_matrix_kernel,
            (
                &ds.client,
                cube_count(cubes, limits),
                CubeDim::new_1d(plan.units() as u32),
                x_width,
                weight.width,
                x.into_buffer_arg(),
                weight.codes.clone().into_buffer_arg(),
                weight.scales.clone().into_buffer_arg(),
                weight.zero_points().into_buffer_arg(),
                grad.into_buffer_arg(),
                ds.clone().into_buffer_arg(),
                dz.clone().into_buffer_arg(),
                weight.sizes(),
                m,
                chunks,
                cubes,
                plan,
                problem.block(),
                dtypes,
            )
        );
    }
    Some(chunk_sums(
        ds,
        dz,
        [groups, n],
        chunks,
        weight.scales.dtype,
        weight.width,
    ))
}
