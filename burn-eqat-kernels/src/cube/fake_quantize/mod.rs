//! Launches of the fake quantization kernels.

mod kernel;

use crate::Bits;
use crate::cube::group::ChunksLaunch;
use crate::cube::limits::elem;
use crate::cube::plan::column::ColumnPlan;
use crate::cube::plan::group::GroupPlan;
use crate::cube::plan::limits::Limits;
use crate::cube::reduce::chunk_sums;
use crate::cube::tensors::{column_width, cube_count, dims, elementwise, empty, rows};
use crate::cube::words::WeightSizesLaunch;
use burn::tensor::DType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use kernel::{ROWS, fake_quantize_backward_kernel, fake_quantize_kernel};

/// A weight and what it is quantized with, in rows without gaps.
pub(crate) struct Quantizer {
    w: CubeTensor,
    s: CubeTensor,
    z: CubeTensor,
    limits: Limits,
    width: usize,
    group: usize,
    max_code: u32,
}

impl Quantizer {
    pub fn new(w: CubeTensor, s: CubeTensor, z: CubeTensor, bits: Bits) -> Self {
        let (w_dtype, s_dtype) = (w.dtype, s.dtype);
        let limits = Limits::of(&w.client, w_dtype);
        let ([k, n], [groups, _]) = (dims(&w), dims(&s));
        Quantizer {
            w: rows(w, w_dtype),
            s: rows(s, s_dtype),
            z: rows(z, s_dtype),
            limits,
            width: column_width(n, &limits),
            group: k / groups,
            max_code: bits.max_code(),
        }
    }

    fn sizes(&self, vectors: usize) -> WeightSizesLaunch {
        let [k, _] = dims(&self.w);
        WeightSizesLaunch::new(k, 0, vectors, self.group)
    }

    /// The quantized-dequantized weight, in the type of the weight.
    pub fn forward(self) -> CubeTensor {
        let ([k, n], [groups, _]) = (dims(&self.w), dims(&self.s));
        let out = empty(&self.w, [k, n], self.w.dtype);
        let pieces = self.group.div_ceil(ROWS);
        let plan = ColumnPlan::new(groups * pieces, n, self.width);
        if plan.total == 0 {
            return out;
        }
        let (count, dim) = elementwise(&out, plan.total);
        let dtypes = [elem(self.w.dtype), elem(self.s.dtype)];
        // SAFETY: units past `total` return; rows past the group are neither read nor written.
        unsafe {
            fake_quantize_kernel::launch_unchecked(
                &out.client,
                count,
                dim,
                self.width,
                self.w.clone().into_buffer_arg(),
                self.s.clone().into_buffer_arg(),
                self.z.clone().into_buffer_arg(),
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

    /// Gradients by `w`, `s` and `z`.
    pub fn backward(self, grad: CubeTensor) -> (CubeTensor, CubeTensor, CubeTensor) {
        let ([k, n], [groups, _]) = (dims(&self.w), dims(&self.s));
        let (w_dtype, s_dtype) = (self.w.dtype, self.s.dtype);
        let grad = rows(grad, w_dtype);
        let vectors = n / self.width;
        let plan = GroupPlan::new(self.group, vectors, self.width, &self.limits);
        let chunks = groups * plan.chunks;
        let dw = empty(&grad, [k, n], w_dtype);
        let ds = empty(&grad, [chunks, n], DType::F32);
        let dz = empty(&grad, [chunks, n], DType::F32);
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
                    self.w.into_buffer_arg(),
                    self.s.into_buffer_arg(),
                    self.z.into_buffer_arg(),
                    grad.clone().into_buffer_arg(),
                    dw.clone().into_buffer_arg(),
                    ds.clone().into_buffer_arg(),
                    dz.clone().into_buffer_arg(),
                    sizes,
                    ChunksLaunch::new(plan.chunk, plan.chunks),
                    cubes,
                    plan.cube,
                    self.max_code,
                    [elem(w_dtype), elem(s_dtype)],
                );
            }
        }
        let (ds, dz) = chunk_sums(ds, dz, [groups, n], plan.chunks, s_dtype, self.width);
        (dw, ds, dz)
    }
}
