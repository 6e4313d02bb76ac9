//! The extension trait that a backend implements, and which backends do.

use crate::Bits;
use crate::portable;
use burn::backend::{
    backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::Shape;

// The macro's fusion code names `burn::backend::fusion`, which is there only with Burn's `fusion`
// feature. Burn's default features turn fusion on inside burn-cubecl without it, and then the
// implementation is needed all the same: this shadow makes the path resolve either way.
#[cfg(feature = "cube")]
#[allow(unused_imports)]
mod burn {
    pub use ::burn::*;
    pub mod backend {
        pub use ::burn::backend::*;
        pub use ::burn_fusion as fusion;
    }
}

/// Output shape of an op that makes rows of `d_output` columns.
#[allow(dead_code)] // named only by the fusion implementation
fn rows_of(rows: usize, scale: &Shape) -> Shape {
    Shape::new([rows, scale[1]])
}

/// The packed low-bit ops of a backend.
///
/// Every method has a portable body in terms of the backend's other ops, so `impl QuantOps for
/// MyBackend {}` is enough to start with. Call them through [`PackedWeight`](crate::PackedWeight) and the functions of
/// this crate, which return errors, flatten and differentiate. The methods take operands of two axes (a bias has one);
/// shapes that do not fit together are a panic with a message. `k` is `d_input`, `n` is `d_output`, `g` the
/// number of groups, `m` the number of rows of the input. Zero points as numbers are of the type of the step sizes, a
/// bias and a gradient of an output of the type of the activations; those and the step sizes may differ.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "cube"),
)]
pub trait QuantOps: ::burn::backend::Backend {
    /// Quantize-dequantize of `weight [k, n]` with `scales`, `zero_points [g, n]`: to `[k, n]`.
    #[fusion(dtype = weight, shape = weight)]
    fn quant_fake(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        portable::fake_quantize::<Self>(weight, scales, zero_points, bits)
    }

    /// Gradients of [`quant_fake`](Self::quant_fake) by weight, step sizes and zero points, of their shapes.
    #[fusion(meta = |weight, scales, zero_points, _grad, _bits| (weight.clone(), scales.clone(), zero_points.clone()))]
    fn quant_fake_backward(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        portable::fake_quantize_backward::<Self>(weight, scales, zero_points, grad, bits)
    }

    /// Codes `[len, n]` of the words `codes [ceil(len * b / 32), n]`.
    #[fusion(dtype = codes, shape = rows_of(*len, codes))]
    fn quant_unpack(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        portable::unpack::<Self>(codes, bits, len)
    }

    /// Codes `[g, len]` of the words `codes [g, ceil(len * b / 32)]`, which run along the columns.
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

    /// [`quant_linear`](Self::quant_linear) with zero points as they are stored, in words along the
    /// columns: `[g, ceil(n * b / 32)]`. Where nothing is differentiated, a backend may quantize the
    /// activations if [`Activations`](crate::Activations) says so.
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
