//! Root-mean-square norm.

use super::half::{is_half, widen};
use crate::OpError;
use crate::api::in_type;
use crate::check::expect_shape;
#[cfg(feature = "flex")]
use crate::flex::transformer::{self as flex, Argument, Arguments};
use burn::tensor::Tensor;

/// `x / sqrt(mean(x^2) + epsilon) * gamma` along the last dimension, with gradients by `x` and `gamma`.
///
/// `x` and `gamma` may be of different types: the result is in that of `x`, and the gradient of each in its own. Half precision
/// is computed in f32.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat_kernels::transformer::rms_norm;
///
/// let device = Device::flex();
/// let x = Tensor::<3>::random([2, 5, 64], Distribution::Default, &device);
/// let y = rms_norm(x, Tensor::ones([64], &device), 1e-6)?;
/// // The mean square of each position is 1.
/// let mean_square = y.square().mean_dim(2);
/// assert!((mean_square - 1.0).abs().max().into_scalar::<f32>() < 1e-3);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
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
    let dtype = x.dtype();
    if is_half(dtype) {
        // Squares of half precisions would overflow.
        return Ok(in_type(rms_norm(widen(x), gamma, epsilon)?, dtype));
    }
    let gamma = in_type(gamma, dtype);
    #[cfg(feature = "flex")]
    if let Some(arguments) = Arguments::all([Argument::of(&x), Argument::of(&gamma)]) {
        return Ok(flex::rms_norm(arguments, epsilon as f32));
    }
    let size = (x.clone().square().mean_dim(D - 1) + epsilon).sqrt();
    Ok((x / size) * gamma.unsqueeze())
}
