//! Launches of the dequantization kernels.

pub(in crate::cube) mod kernel;

use crate::cube::group::ChunksLaunch;
use crate::cube::limits::elem;
use crate::cube::plan::column::ColumnPlan;
use crate::cube::plan::group::GroupPlan;
use crate::cube::reduce::chunk_sums;
use crate::cube::tensors::{cube_count, dims, elementwise, empty, rows};
use crate::cube::weight::DeviceWeight;
use crate::cube::words::sizes;
use burn::tensor::DType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use kernel::{PartLaunch, dequantize_backward_kernel, dequantize_kernel};
use std::ops::Range;

/// The rows and columns of a slab of a weight; both start at multiples of a block or vector.
pub(crate) struct Region {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

impl Region {
    /// All of a weight `[k, n]`.
    pub fn all(k: usize, n: usize) -> Self {
        Region {
            rows: 0..k,
            columns: 0..n,
        }
    }
}

/// The weights of a region, in `dtype`.
pub(crate) fn dequantize(weight: &DeviceWeight, region: Region, dtype: DType) -> CubeTensor {
    let block = weight.problem.block();
    let shape = [region.rows.len(), region.columns.len()];
    let out = empty(&weight.scales, shape, dtype);
    let plan = ColumnPlan::new(block.blocks(shape[0]), shape[1], weight.width);
    if plan.total == 0 {
        return out;
    }
    let (count, dim) = elementwise(&out, plan.total);
    // SAFETY: units past `total` return; rows past the region are not written, and the region lies in
    // the weight.
    unsafe {
        dequantize_kernel::launch_unchecked(
            &out.client,
            count,
            dim,
            weight.width,
            weight.codes.clone().into_buffer_arg(),
            weight.scales.clone().into_buffer_arg(),
            weight.zero_points().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            weight.sizes(),
            PartLaunch::new(
                region.rows.start / block.fields,
                shape[0],
                region.columns.start / weight.width,
                plan.vectors,
            ),
            plan.total,
            block,
            weight.problem.aligned(),
            [elem(weight.scales.dtype), elem(dtype)],
        );
    }
    out
}

/// Gradients by step sizes and zero points, `[groups, columns]` in `dtype`, summed in f32. `grad [k, columns]` is the
/// gradient of some columns of the weight, from `first_column` on.
pub(crate) fn dequantize_backward(
    weight: &DeviceWeight,
    grad: CubeTensor,
    first_column: usize,
    dtype: DType,
) -> (CubeTensor, CubeTensor) {
    let problem = &weight.problem;
    let grad_dtype = grad.dtype;
    let grad = rows(grad, grad_dtype);
    let [_, columns] = dims(&grad);
    let groups = problem.groups;
    let vectors = columns / weight.width;
    let plan = GroupPlan::new(problem.group(), vectors, weight.width, &weight.limits);
    let chunks = groups * plan.chunks;
    let ds = empty(&grad, [chunks, columns], DType::F32);
    let dz = empty(&grad, [chunks, columns], DType::F32);
    let cubes = plan.cubes(groups);
    if cubes > 0 {
        // SAFETY: cubes past `cubes` return; a unit past the last column reads and writes nothing.
        unsafe {
            dequantize_backward_kernel::launch_unchecked(
                &grad.client,
                cube_count(cubes, &weight.limits),
                CubeDim::new_1d(plan.cube.units() as u32),
                weight.width,
                weight.codes.clone().into_buffer_arg(),
                weight.scales.clone().into_buffer_arg(),
                weight.zero_points().into_buffer_arg(),
                grad.clone().into_buffer_arg(),
                ds.clone().into_buffer_arg(),
                dz.clone().into_buffer_arg(),
                weight.sizes(),
                sizes(problem.k, 0, vectors, problem.group()),
                first_column / weight.width,
                ChunksLaunch::new(plan.chunk, plan.chunks),
                cubes,
                plan.cube,
                problem.block(),
                [elem(weight.scales.dtype), elem(grad_dtype)],
            );
        }
    }
    chunk_sums(ds, dz, [groups, columns], plan.chunks, dtype, weight.width)
}
