//! Exponentials, and the middle of a SwiGLU layer.

use crate::OpError;
use crate::check::expect_shape;
#[cfg(feature = "flex")]
use crate::flex::transformer::{self as flex, Argument, Arguments};
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

/// `e^x`, with gradients.
///
/// On Flex, f32 is off from the exact value by at most two units in the last place. Other types and backends are as
/// exact as Burn's own. Any tensor will do, so there is no error.
pub fn exp<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(argument) = Arguments::all([Argument::of(&x)]) {
        drop(x);
        return flex::exp(argument);
    }
    x.exp()
}

/// `silu(gate) * up`, the middle of a SwiGLU feed-forward layer, with gradients.
///
/// # Shapes
///
/// - `gate`, `up` and output: the same
///
/// # Errors
///
/// When the shapes differ.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Result<Tensor<D>, OpError> {
    expect_shape("swiglu", "up", &up.dims(), &gate.dims())?;
    #[cfg(feature = "flex")]
    if let Some(arguments) = Arguments::all([Argument::of(&gate), Argument::of(&up)]) {
        return Ok(flex::swiglu(arguments));
    }
    Ok(silu(gate) * up)
}
