//! Layers with dense weights, and products in bf16.

use crate::OpError;
use crate::api::in_type;
use crate::check::expect_shape;
#[cfg(all(feature = "flex", target_arch = "x86_64"))]
use crate::flex::transformer::{self as flex, Argument, Arguments};
use burn::tensor::module::linear as burn_linear;
use burn::tensor::{DType, Device, Tensor};

/// Whether products in bf16 are faster than in f32 on a CPU: on Flex, with AVX-512 BF16. [`linear`], [`matmul_wide`],
/// [`causal_attention`](super::causal_attention) and layers of packed weights use the instruction where their input is in bf16.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat_kernels::transformer::multiplies_bf16;
///
/// let fast: bool = multiplies_bf16(&Device::flex());
/// ```
pub fn multiplies_bf16(device: &Device) -> bool {
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    {
        use burn::backend::DispatchDevice;

        let device = device.clone().inner();
        matches!(device.as_dispatch(), DispatchDevice::Flex(_)) && flex::multiplies_bf16()
    }
    #[cfg(not(all(feature = "flex", target_arch = "x86_64")))]
    {
        let _ = device;
        false
    }
}

/// `x W + b` with a dense weight, in the type of `x`, with gradients. Weight and bias may be in another type, which their gradients
/// have.
///
/// Where a CPU [multiplies in bf16](multiplies_bf16), an input in bf16 is multiplied by the weight rounded to bf16, and sums are in
/// f32. Everywhere else this is Burn's linear layer with the weight in the type of `x`.
///
/// ```
/// use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
/// use burn_eqat_kernels::transformer::linear;
///
/// let device = Device::flex();
/// let x = Tensor::<3>::random([2, 5, 64], Distribution::Default, &device);
/// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device);
/// let y = linear(x.clone().cast(FloatDType::BF16), weight.clone(), None)?;
/// assert_eq!((y.dims(), y.dtype()), ([2, 5, 16], DType::BF16));
/// // The sums are near 16.
/// let error = y.cast(FloatDType::F32) - x.matmul(weight.unsqueeze());
/// assert!(error.abs().max().into_scalar::<f32>() < 0.1);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `x`: `[.., d_input]`
/// - `weight`: `[d_input, d_output]`
/// - `bias`: `[d_output]`
/// - output: `[.., d_output]`
///
/// # Errors
///
/// When the shapes do not fit together.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Result<Tensor<D>, OpError> {
    const OP: &str = "linear";
    let [_, d_output] = weight.dims();
    let d_input = x.dims()[D - 1];
    expect_shape(OP, "weight", &weight.dims(), &[d_input, d_output])?;
    if let Some(bias) = &bias {
        expect_shape(OP, "bias", &bias.dims(), &[d_output])?;
    }
    let dtype = x.dtype();
    let bias = bias.map(|bias| in_type(bias, dtype));
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    if dtype == DType::BF16
        && multiplies_bf16(&x.device())
        && let Some(arguments) = Arguments::all([Argument::any(&x), Argument::any(&weight)])
    {
        let y = flex::linear(arguments);
        return Ok(match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        });
    }
    Ok(burn_linear(x, in_type(weight, dtype), bias))
}

/// A matrix product in f32 of operands of any type. Where one is in bf16, and the CPU [multiplies in bf16](multiplies_bf16), both are
/// rounded to bf16, unless gradients are recorded; sums are in f32.
///
/// ```
/// use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
/// use burn_eqat_kernels::transformer::matmul_wide;
///
/// let device = Device::flex();
/// let left = Tensor::<2>::random([5, 64], Distribution::Default, &device);
/// let right = Tensor::<2>::random([64, 16], Distribution::Default, &device);
/// let y = matmul_wide(left.clone().cast(FloatDType::BF16), right.clone())?;
/// assert_eq!(y.dtype(), DType::F32);
/// let error = y - left.matmul(right);
/// assert!(error.abs().max().into_scalar::<f32>() < 0.05);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `left`: `[m, k]`
/// - `right`: `[k, n]`
/// - output: `[m, n]`
///
/// # Errors
///
/// When the shapes do not fit together.
pub fn matmul_wide(left: Tensor<2>, right: Tensor<2>) -> Result<Tensor<2>, OpError> {
    let ([_, k], [_, n]) = (left.dims(), right.dims());
    expect_shape("matmul_wide", "the right operand", &right.dims(), &[k, n])?;
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    if [&left, &right]
        .map(|operand| operand.dtype())
        .contains(&DType::BF16)
        && multiplies_bf16(&left.device())
        && let (Some(left), Some(right)) = (Argument::plain(&left), Argument::plain(&right))
    {
        return Ok(flex::matmul(left, right));
    }
    let [left, right] = [left, right].map(|operand| in_type(operand, DType::F32));
    Ok(left.matmul(right))
}

/// A tensor in another float type; itself if it is of that type. A gradient goes back in the tensor's own.
///
/// On Flex, f32 and bf16 are cast a vector at a time.
///
/// ```
/// use burn::tensor::{DType, Device, Tensor};
/// use burn_eqat_kernels::transformer::cast;
///
/// let x = Tensor::<1>::from_data([1.0, 2.0], &Device::flex());
/// assert_eq!(cast(x, DType::BF16).dtype(), DType::BF16);
/// ```
pub fn cast<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    in_type(tensor, dtype)
}
