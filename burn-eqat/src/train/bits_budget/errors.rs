//! What the loss rises by where a weight is quantized.

use super::sensitivity::Squares;
use crate::{Scheme, SchemeError, searched_start};
use burn::tensor::Tensor;
use burn_eqat_kernels::fake_quantize;

/// The rise of the loss, without a common factor, for a weight `[d_input, d_output]` in a scheme: the sum over its numbers of the squared error
/// times the curvature, which is taken for the product of its sums over columns and over rows.
pub(super) fn rise(
    weight: &Tensor<2>,
    squares: &Squares,
    scheme: &Scheme,
) -> Result<f64, SchemeError> {
    let [d_input, d_output] = weight.dims();
    let start = searched_start(weight.clone(), Some(squares.rows.clone()), scheme)?;
    let (scales, zero_points) = start;
    let quantized = fake_quantize(weight.clone(), scales, zero_points, scheme.bits)
        .unwrap_or_else(|error| error.raise());
    let error = (quantized - weight.clone()).square();
    let sum: f64 = squares.rows.clone().sum().into_scalar();
    if sum <= 0.0 {
        return Ok(0.0);
    }
    let rows = squares.rows.clone().reshape([d_input, 1]);
    let columns = squares.columns.clone().reshape([1, d_output]);
    let rise: f64 = (error * rows * columns).sum().into_scalar();
    Ok(rise / sum)
}
