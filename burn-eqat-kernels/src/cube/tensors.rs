//! Tensors and cube counts for launches.

use crate::cube::plan::limits::Limits;
use crate::cube::plan::sizes::vector_width;
use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// A new tensor of `shape` on the device of `like`.
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

/// `tensor` in contiguous rows, of type `dtype`.
pub(crate) fn rows(tensor: CubeTensor, dtype: DType) -> CubeTensor {
    // In this order, since a cast may leave gaps between rows.
    let tensor = if tensor.dtype == dtype {
        tensor
    } else {
        cast(tensor, dtype)
    };
    into_contiguous(tensor)
}

/// Words in contiguous rows. A kernel reads their bits, so their sign does not matter.
pub(crate) fn word_rows(words: CubeTensor) -> CubeTensor {
    match words.dtype {
        DType::I32 | DType::U32 => into_contiguous(words),
        _ => rows(words, DType::I32),
    }
}

/// The width of a vector of columns, for rows of `n` columns.
pub(crate) fn column_width(n: usize, limits: &Limits) -> usize {
    vector_width(n, limits.vector)
}

/// Spreads `cubes` over the axes of a launch, each within the device's limit. There may be more cubes than
/// requested, so a kernel checks its position.
pub(crate) fn cube_count(cubes: usize, limits: &Limits) -> CubeCount {
    let most = limits.cubes.min(u32::MAX as usize);
    let x = cubes.min(most);
    let y = cubes.div_ceil(x).min(most);
    let z = cubes.div_ceil(x * y);
    CubeCount::Static(x as u32, y as u32, z as u32)
}

/// The count and size of the cubes for `total` independent units.
pub(crate) fn elementwise(like: &CubeTensor, total: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, total);
    let count = burn_cubecl::cubecl::calculate_cube_count_elemwise(&like.client, total, dim);
    (count, dim)
}
