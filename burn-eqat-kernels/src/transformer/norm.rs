//! Root-mean-square norm.

use crate::OpError;
use crate::check::expect_shape;
#[cfg(feature = "flex")]
use crate::flex::transformer::{self as flex, Argument, Arguments};
use burn::tensor::{DType, Tensor};

/// `x / sqrt(mean(x^2) + epsilon) * gamma` along the last dimension, with gradients by `x` and `gamma`.
///
/// # Shapes
///
/// - `x` and output: `[.., width]`
/// - `gamma`: `[width]`
///
/// # Errors
///
/// When the widths of `gamma` and `x` differ.
pub fn rms_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    epsilon: f64,
) -> Result<Tensor<D>, OpError> {
    expect_shape("rms_norm", "gamma", &gamma.dims(), &x.dims()[D - 1..])?;
    #[cfg(feature = "flex")]
    if let Some(arguments) = Arguments::all([Argument::of(&x), Argument::of(&gamma)]) {
        return Ok(flex::rms_norm(arguments, epsilon as f32));
    }
    let dtype = x.dtype();
    // Squares of half precisions would overflow.
    let wide = match dtype {
        DType::F64 => x.clone(),
        _ => x.clone().cast(DType::F32),
    };
    let size = (wide.square().mean_dim(D - 1) + epsilon).sqrt();
    Ok((x / size.cast(dtype)) * gamma.unsqueeze())
}
