//! The extension trait, and the backends that implement it.

use crate::Bits;
use crate::portable;
use burn::backend::{
    backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::Shape;

// The macro's fusion code names `burn::backend::fusion`, which exists only with Burn's `fusion`
// feature. Burn's default features turn fusion on inside burn-cubecl without that feature, and then
// the implementation is needed too. This shadow module makes the path resolve either way.
#[cfg(feature = "cube")]
#[allow(unused_imports)]
mod burn {
    pub use ::burn::*;
    pub mod backend {
        pub use ::burn::backend::*;
        pub use ::burn_fusion as fusion;
    }
}

/// Output shape of an op whose result has `d_output` columns.
#[allow(dead_code)] // named only by the fusion implementation
fn rows_of(rows: usize, scale: &Shape) -> Shape {
    Shape::new([rows, scale[1]])
}

/// The packed low-bit ops of a backend.
///
/// Every method has a portable default body made of the backend's other ops, so `impl QuantOps for MyBackend {}` is
/// enough to start with. Call the methods through [`PackedWeight`](crate::PackedWeight) and the functions of this
/// crate: these return errors, flatten the input and differentiate.
///
/// Operands have two axes (a bias has one). Shapes that do not fit together are a panic with a message. `k` is
/// `d_input`, `n` is `d_output`, `g` is the number of groups and `m` the number of rows of the input. Zero points as
/// numbers have the type of the step sizes. A bias, and the gradient of an output, have the type of the activations,
/// which may differ from that of the step sizes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "cube"),
)]
pub trait QuantOps: ::burn::backend::Backend {
    /// Quantizes and dequantizes `weight [k, n]` with `scales` and `zero_points [g, n]`. The result is `[k, n]`.
    #[fusion(dtype = weight, shape = weight)]
    fn fake_quantize(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        portable::fake_quantize::<Self>(weight, scales, zero_points, bits)
    }

    /// Gradients of [`fake_quantize`](Self::fake_quantize) by weight, step sizes and zero points, in their shapes.
    #[fusion(meta = |weight, scales, zero_points, _grad, _bits| (weight.clone(), scales.clone(), zero_points.clone()))]
    fn fake_quantize_backward(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        portable::fake_quantize_backward::<Self>(weight, scales, zero_points, grad, bits)
    }

    /// Unpacks the words `codes [ceil(len * b / 32), n]` to codes `[len, n]`.
    #[fusion(dtype = codes, shape = rows_of(*len, codes))]
    fn quant_unpack(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        portable::unpack::<Self>(codes, bits, len)
    }

    /// Unpacks the words `codes [g, ceil(len * b / 32)]`, packed along the columns, to codes `[g, len]`.
    #[fusion(dtype = codes, shape = Shape::new([codes[0], *len]))]
    fn quant_unpack_columns(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        portable::unpack_columns::<Self>(codes, bits, len)
    }

    /// `(code - zero point) * step size`, `[d_input, n]`, in the type of the step sizes.
    #[fusion(dtype = scales, shape = rows_of(*d_input, scales))]
    fn quant_dequantize(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        portable::dequantize::<Self>(codes, scales, zero_points, bits, d_input)
    }

    /// Gradients of [`quant_dequantize`](Self::quant_dequantize) by step sizes and zero points.
    #[fusion(meta = |_codes, scales, zero_points, _grad, _bits, _d_input| (scales.clone(), zero_points.clone()))]
    fn quant_dequantize_backward(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::dequantize_backward::<Self>(codes, scales, zero_points, grad, bits, d_input)
    }

    /// `x [m, k]` times the packed weight: `[m, n]`.
    #[fusion(dtype = x, shape = rows_of(x[0], scales))]
    fn quant_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        portable::quant_linear::<Self>(x, codes, scales, zero_points, bits)
    }

    /// [`quant_linear`](Self::quant_linear) plus `bias [n]`.
    #[fusion(dtype = x, shape = rows_of(x[0], scales))]
    fn quant_linear_bias(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        portable::add_bias::<Self>(
            Self::quant_linear(x, codes, scales, zero_points, bits),
            bias,
        )
    }

    /// [`quant_linear`](Self::quant_linear) with zero points in packed words along the columns,
    /// `[g, ceil(n * b / 32)]`. Without autodiff, a backend may quantize the activations if
    /// [`Activations`](crate::Activations) allows it.
    #[fusion(dtype = x, shape = rows_of(x[0], scales))]
    fn quant_linear_packed(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: IntTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let z = portable::zero_points::<Self>(zero_points, &scales, bits);
        Self::quant_linear(x, codes, scales, z, bits)
    }

    /// [`quant_linear_packed`](Self::quant_linear_packed) plus `bias [n]`.
    #[fusion(dtype = x, shape = rows_of(x[0], scales))]
    fn quant_linear_packed_bias(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: IntTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let z = portable::zero_points::<Self>(zero_points, &scales, bits);
        Self::quant_linear_bias(x, codes, scales, z, bias, bits)
    }

    /// Gradient of [`quant_linear`](Self::quant_linear) by `x`: `[m, d_input]`.
    #[fusion(dtype = grad, shape = Shape::new([grad[0], *d_input]))]
    fn quant_linear_backward_input(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        portable::quant_linear_backward_input::<Self>(
            codes,
            scales,
            zero_points,
            grad,
            bits,
            d_input,
        )
    }

    /// Gradients of [`quant_linear`](Self::quant_linear) by step sizes and zero points, `[g, n]`.
    #[fusion(meta = |_x, _codes, scales, zero_points, _grad, _bits| (scales.clone(), zero_points.clone()))]
    fn quant_linear_backward_scale(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::quant_linear_backward_scale::<Self>(x, codes, scales, zero_points, grad, bits)
    }
}

#[cfg(feature = "ndarray")]
impl QuantOps for ::burn::backend::NdArray {}
#[cfg(feature = "tch")]
impl QuantOps for ::burn::backend::LibTorch {}
