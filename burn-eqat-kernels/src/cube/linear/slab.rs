//! Matmuls by slabs: a part of the weight is dequantized into a workspace of bounded size, and multiplied by
//! Burn's own matmul, which can use every device's matrix units.

use super::unavailable::Unavailable;
use crate::cube::dequantize::{Region, dequantize, dequantize_backward};
use crate::cube::plan::slab::slabs;
use crate::cube::plan::tile::DEPTH;
use crate::cube::tensors::{dims, empty};
use crate::cube::weight::DeviceWeight;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use std::ops::Range;

type Result<T> = std::result::Result<T, Unavailable>;

fn dense_matmul(left: CubeTensor, right: CubeTensor, dtype: DType) -> Result<CubeTensor> {
    matmul(left, right, None, MatmulStrategy::default(), dtype)
        .map_err(|error| Unavailable::Burn(format!("{error:?}")))
}

fn columns(tensor: &CubeTensor, range: &Range<usize>) -> CubeTensor {
    if dims(tensor)[1] == range.len() {
        return tensor.clone();
    }
    CubeBackend::float_slice(tensor.clone(), &[Slice::full(), Slice::from(range.clone())])
}

/// Puts `part` into columns `range` of `whole`. Returns `part` itself if it has all columns.
fn assemble(
    whole: Option<CubeTensor>,
    part: CubeTensor,
    range: &Range<usize>,
    shape: [usize; 2],
) -> CubeTensor {
    if range.len() == shape[1] {
        return part;
    }
    let whole = whole.unwrap_or_else(|| empty(&part, shape, part.dtype));
    let slices = [Slice::full(), Slice::from(range.clone())];
    CubeBackend::float_slice_assign(whole, &slices, part)
}

/// `x [m, k]` times the weight plus `bias [n]`, in the type of `x`.
pub(crate) fn forward(
    x: CubeTensor,
    weight: &DeviceWeight,
    bias: Option<CubeTensor>,
) -> Result<CubeTensor> {
    let (weight, dtype) = (&weight.with_numbers(), x.dtype);
    let problem = &weight.problem;
    let shape = [dims(&x)[0], problem.n];
    let mut y = None;
    for range in slabs(problem.n, problem.k * dtype.size(), DEPTH) {
        let region = Region {
            rows: 0..problem.k,
            columns: range.clone(),
        };
        let part = dense_matmul(x.clone(), dequantize(weight, region, dtype), dtype)?;
        y = Some(assemble(y, part, &range, shape));
    }
    let y = y.unwrap_or_else(|| empty(&x, shape, dtype));
    Ok(match bias {
        Some(bias) => crate::portable::add_bias::<CubeBackend>(y, bias),
        None => y,
    })
}

/// The gradient by the input of `grad [m, n]`: `[m, k]`, in the type of `grad`.
pub(crate) fn input(grad: CubeTensor, weight: &DeviceWeight) -> Result<CubeTensor> {
    let (problem, dtype) = (&weight.problem, grad.dtype);
    let shape = [dims(&grad)[0], problem.k];
    let mut dx = None;
    for range in slabs(problem.k, problem.n * dtype.size(), DEPTH) {
        let region = Region {
            rows: range.clone(),
            columns: 0..problem.n,
        };
        let dense = CubeBackend::float_transpose(dequantize(weight, region, dtype));
        let part = dense_matmul(grad.clone(), dense, dtype)?;
        dx = Some(assemble(dx, part, &range, shape));
    }
    Ok(dx.unwrap_or_else(|| empty(&grad, shape, dtype)))
}

/// The gradients by step sizes and zero points, `[groups, n]`, in the type of the step sizes. The slabs are parts of
/// the dense weight's gradient, in f32.
pub(crate) fn scale(
    x: CubeTensor,
    grad: CubeTensor,
    weight: &DeviceWeight,
) -> Result<(CubeTensor, CubeTensor)> {
    let problem = &weight.problem;
    let dtype = weight.scales.dtype;
    let shape = [problem.groups, problem.n];
    let x = CubeBackend::float_transpose(x);
    let (mut ds, mut dz) = (None, None);
    for range in slabs(problem.n, problem.k * 4, DEPTH) {
        let dw = dense_matmul(x.clone(), columns(&grad, &range), DType::F32)?;
        let (s, z) = dequantize_backward(weight, dw, range.start, dtype);
        ds = Some(assemble(ds, s, &range, shape));
        dz = Some(assemble(dz, z, &range, shape));
    }
    let none = || empty(&grad, shape, dtype);
    Ok((ds.unwrap_or_else(none), dz.unwrap_or_else(none)))
}
