//! Tensors and cube counts for launches.

use crate::cube::plan::limits::Limits;
use crate::cube::plan::sizes::vector_width;
use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// A new tensor of `shape` beside `like`.
pub(crate) fn empty(like: &CubeTensor, shape: [usize; 2], dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        Shape::new(shape),
        dtype,
    )
}

/// Two-dimensional sizes of a tensor.
pub(crate) fn dims(tensor: &CubeTensor) -> [usize; 2] {
    let shape = tensor.shape();
    [shape[0], shape[1]]
}

/// `tensor` in rows without gaps, of type `dtype`.
pub(crate) fn rows(tensor: CubeTensor, dtype: DType) -> CubeTensor {
    // In this order: a cast may leave gaps between rows.
    let tensor = if tensor.dtype == dtype {
        tensor
    } else {
        cast(tensor, dtype)
    };
    into_contiguous(tensor)
}

/// Words in rows without gaps; signed or not, a kernel reads them as their bits.
pub(crate) fn word_rows(words: CubeTensor) -> CubeTensor {
    match words.dtype {
        DType::I32 | DType::U32 => into_contiguous(words),
        _ => rows(words, DType::I32),
    }
}

/// Columns that one vector takes of rows of `n` columns.
pub(crate) fn column_width(n: usize, limits: &Limits) -> usize {
    vector_width(n, limits.vector)
}

/// `cubes` spread over the axes of a launch, none above what the device takes; there may be more
/// than asked for, so a kernel checks its position.
pub(crate) fn cube_count(cubes: usize, limits: &Limits) -> CubeCount {
    let most = limits.cubes.min(u32::MAX as usize);
    let x = cubes.min(most);
    let y = cubes.div_ceil(x).min(most);
    let z = cubes.div_ceil(x * y);
    CubeCount::Static(x as u32, y as u32, z as u32)
}

/// Count and size of the cubes for `total` units that do not work together.
pub(crate) fn elementwise(like: &CubeTensor, total: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, total);
    let count = burn_cubecl::cubecl::calculate_cube_count_elemwise(&like.client, total, dim);
    (count, dim)
}
