//! Exponentials, and the activation of a SwiGLU layer.

use super::half::{runs_wide, widen};
use crate::OpError;
use crate::api::in_type;
use crate::check::expect_shape;
#[cfg(feature = "flex")]
use crate::flex::transformer::{self as flex, Argument, Arguments};
#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

/// `e^x`, with gradients.
///
/// On Flex, the error in f32 is at most two units in the last place. Other types and backends are as exact as Burn's own
/// `exp`. Any tensor is valid, so no error is returned.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat_kernels::transformer::exp;
///
/// let x = Tensor::<1>::from_data([1.0], &Device::flex());
/// let y: f32 = exp(x).into_scalar();
/// assert!((y - std::f32::consts::E).abs() < 1e-6);
/// ```
pub fn exp<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if runs_wide(&x) {
        let dtype = x.dtype();
        return in_type(exp(widen(x)), dtype);
    }
    #[cfg(feature = "flex")]
    if let Some(argument) = Arguments::all([Argument::of(&x)]) {
        drop(x);
        return flex::exp(argument);
    }
    x.exp()
}

/// `silu(gate) * up`, the activation of a SwiGLU feed-forward layer, with gradients.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor, activation::silu};
/// use burn_eqat_kernels::transformer::swiglu;
///
/// let random = || Tensor::<3>::random([2, 5, 64], Distribution::Default, &Device::flex());
/// let (gate, up) = (random(), random());
/// let y = swiglu(gate.clone(), up.clone())?;
/// assert!((y - silu(gate) * up).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `gate`, `up` and output: the same shape
///
/// # Errors
///
/// When the shapes differ.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Result<Tensor<D>, OpError> {
    expect_shape("swiglu", "up", &up.dims(), &gate.dims())?;
    #[cfg(feature = "flex")]
    if gate.dtype() == DType::BF16
        && up.dtype() == DType::BF16
        && let Some(arguments) = Arguments::all([Argument::any(&gate), Argument::any(&up)])
    {
        return Ok(flex::swiglu(arguments));
    }
    if runs_wide(&gate) {
        let dtype = gate.dtype();
        return Ok(in_type(swiglu(widen(gate), widen(up))?, dtype));
    }
    #[cfg(feature = "flex")]
    if let Some(arguments) = Arguments::all([Argument::of(&gate), Argument::of(&up)]) {
        return Ok(flex::swiglu(arguments));
    }
    Ok(silu(gate) * up)
}
