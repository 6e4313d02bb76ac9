//! Launches of the fake quantization kernels.

pub(in crate::cube) mod kernel;

use crate::Bits;
use crate::cube::group::ChunksLaunch;
use crate::cube::limits::elem;
use crate::cube::plan::column::ColumnPlan;
use crate::cube::plan::group::GroupPlan;
use crate::cube::plan::limits::Limits;
use crate::cube::reduce::chunk_sums;
use crate::cube::tensors::{column_width, cube_count, dims, elementwise, empty, rows};
use crate::cube::words::{WeightSizesLaunch, sizes};
use burn::tensor::DType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use kernel::{ROWS, fake_quantize_backward_kernel, fake_quantize_kernel};

/// A weight, its step sizes and its zero points, in contiguous rows.
pub(crate) struct Quantizer {
    weight: CubeTensor,
    scales: CubeTensor,
    zero_points: CubeTensor,
    limits: Limits,
    width: usize,
    group: usize,
    max_code: u32,
}

impl Quantizer {
    pub fn new(
        weight: CubeTensor,
        scales: CubeTensor,
        zero_points: CubeTensor,
        bits: Bits,
    ) -> Self {
        let (weight_dtype, scales_dtype) = (weight.dtype, scales.dtype);
        let limits = Limits::of(&weight.client, weight_dtype);
        let ([k, n], [groups, _]) = (dims(&weight), dims(&scales));
        Quantizer {
            weight: rows(weight, weight_dtype),
            scales: rows(scales, scales_dtype),
            zero_points: rows(zero_points, scales_dtype),
            limits,
            width: column_width(n, &limits),
            group: k / groups,
            max_code: bits.max_code(),
        }
    }

    fn sizes(&self, vectors: usize) -> WeightSizesLaunch {
        let [k, _] = dims(&self.weight);
        sizes(k, 0, vectors, self.group)
    }

    /// The quantized-dequantized weight, in the type of the weight.
    pub fn forward(self) -> CubeTensor {
        let ([k, n], [groups, _]) = (dims(&self.weight), dims(&self.scales));
        let out = empty(&self.weight, [k, n], self.weight.dtype);
        let pieces = self.group.div_ceil(ROWS);
        let plan = ColumnPlan::new(groups * pieces, n, self.width);
        if plan.total == 0 {
            return out;
        }
        let (count, dim) = elementwise(&out, plan.total);
        let dtypes = [elem(self.weight.dtype), elem(self.scales.dtype)];
        // SAFETY: units past `total` return; rows past the group are neither read nor written.
        unsafe {
            fake_quantize_kernel::launch_unchecked(
                &out.client,
                count,
                dim,
                self.width,
                self.weight.clone().into_buffer_arg(),
                self.scales.clone().into_buffer_arg(),
                self.zero_points.clone().into_buffer_arg(),
                out.clone().into_buffer_arg(),
                self.sizes(plan.vectors),
                pieces,
                plan.total,
                self.max_code,
                dtypes,
            );
        }
        out
    }

    /// Gradients by weight, step sizes and zero points.
    pub fn backward(self, grad: CubeTensor) -> (CubeTensor, CubeTensor, CubeTensor) {
        let ([k, n], [groups, _]) = (dims(&self.weight), dims(&self.scales));
        let (weight_dtype, scales_dtype) = (self.weight.dtype, self.scales.dtype);
        let grad = rows(grad, weight_dtype);
        let vectors = n / self.width;
        let plan = GroupPlan::new(self.group, vectors, self.width, &self.limits);
        let chunks = groups * plan.chunks;
        let d_weight = empty(&grad, [k, n], weight_dtype);
        let d_scales = empty(&grad, [chunks, n], DType::F32);
        let d_zero_points = empty(&grad, [chunks, n], DType::F32);
        let cubes = plan.cubes(groups);
        let sizes = self.sizes(vectors);
        if cubes > 0 {
            // SAFETY: cubes past `cubes` return; a unit past the last column reads and writes nothing.
            unsafe {
                fake_quantize_backward_kernel::launch_unchecked(
                    &grad.client,
                    cube_count(cubes, &self.limits),
                    CubeDim::new_1d(plan.cube.units() as u32),
                    self.width,
                    self.weight.into_buffer_arg(),
                    self.scales.into_buffer_arg(),
                    self.zero_points.into_buffer_arg(),
                    grad.clone().into_buffer_arg(),
                    d_weight.clone().into_buffer_arg(),
                    d_scales.clone().into_buffer_arg(),
                    d_zero_points.clone().into_buffer_arg(),
                    sizes,
                    ChunksLaunch::new(plan.chunk, plan.chunks),
                    cubes,
                    plan.cube,
                    self.max_code,
                    [elem(weight_dtype), elem(scales_dtype)],
                );
            }
        }
        let (d_scales, d_zero_points) = chunk_sums(
            d_scales,
            d_zero_points,
            [groups, n],
            plan.chunks,
            scales_dtype,
            self.width,
        );
        (d_weight, d_scales, d_zero_points)
    }
}
