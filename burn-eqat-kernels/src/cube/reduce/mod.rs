//! Adding up partial sums.

pub(in crate::cube) mod kernel;

use crate::cube::limits::elem;
use crate::cube::plan::column::ColumnPlan;
use crate::cube::tensors::{elementwise, empty};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use kernel::reduce_kernel;

/// The order of a sum's parts in a buffer with rows of `n` columns.
#[derive(Clone, Copy)]
pub(crate) enum Parts {
    /// `[rows, parts, n]`.
    Inner(usize),
    /// `[parts, rows, n]`.
    Outer(usize),
}

/// Adds up `partial`, in f32, to `[rows, n]` of type `dtype`, plus `bias [n]`.
pub(crate) fn reduce(
    partial: CubeTensor,
    [rows, n]: [usize; 2],
    parts: Parts,
    bias: Option<CubeTensor>,
    dtype: DType,
    width: usize,
) -> CubeTensor {
    let out = empty(&partial, [rows, n], dtype);
    let plan = ColumnPlan::new(rows, n, width);
    let (parts, row_stride, part_stride) = match parts {
        Parts::Inner(parts) => (parts, parts * plan.vectors, plan.vectors),
        Parts::Outer(parts) => (parts, plan.vectors, rows * plan.vectors),
    };
    let (count, dim) = elementwise(&out, plan.total);
    // SAFETY: units past `total` return; every index lies in the shapes above.
    unsafe {
        reduce_kernel::launch_unchecked(
            &out.client,
            count,
            dim,
            width,
            partial.into_buffer_arg(),
            bias.map(CubeTensor::into_buffer_arg).into(),
            out.clone().into_buffer_arg(),
            plan.vectors,
            parts,
            row_stride,
            part_stride,
            plan.total,
            elem(dtype),
        );
    }
    out
}

/// The output `[m, n]` of a matmul whose inner dimension is split into ranges: its own, or, with several of them, one for each. Sums of
/// ranges stay in f32 and get the bias when they are added up.
pub(crate) struct Ranges {
    /// What the kernel writes: `[ranges * m, n]`.
    pub out: CubeTensor,
    /// What it adds.
    pub bias: Option<CubeTensor>,
    late_bias: Option<CubeTensor>,
    ranges: usize,
    shape: [usize; 2],
    dtype: DType,
}

impl Ranges {
    /// An output of that `shape` of the type and on the device of `like`.
    pub fn new(
        like: &CubeTensor,
        [m, n]: [usize; 2],
        ranges: usize,
        bias: Option<CubeTensor>,
    ) -> Self {
        let dtype = like.dtype;
        let (out_dtype, bias, late_bias) = if ranges == 1 {
            (dtype, bias, None)
        } else {
            (DType::F32, None, bias)
        };
        Ranges {
            out: empty(like, [ranges * m, n], out_dtype),
            bias,
            late_bias,
            ranges,
            shape: [m, n],
            dtype,
        }
    }

    /// The output, once the kernel is launched; `width` is that of its column vectors.
    pub fn add_up(self, width: usize) -> CubeTensor {
        if self.ranges == 1 {
            return self.out;
        }
        let parts = Parts::Outer(self.ranges);
        reduce(
            self.out,
            self.shape,
            parts,
            self.late_bias,
            self.dtype,
            width,
        )
    }
}

/// The sums of groups from the sums of their chunks, `[groups * chunks, n]` each.
pub(crate) fn chunk_sums(
    ds: CubeTensor,
    dz: CubeTensor,
    shape: [usize; 2],
    chunks: usize,
    dtype: DType,
    width: usize,
) -> (CubeTensor, CubeTensor) {
    let sum = |partial| {
        if chunks == 1 && dtype == DType::F32 {
            partial
        } else {
            reduce(partial, shape, Parts::Inner(chunks), None, dtype, width)
        }
    };
    (sum(ds), sum(dz))
}
