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
/// MyBackend {}` is enough to start with. The methods take two-dimensional operands of shapes that
/// were checked before; call them through the functions of this crate ([`crate::quant_linear`] and
/// the rest), which check, flatten and differentiate. `k` is `d_input`, `n` is `d_output`, `g` the
/// number of groups, `m` the number of rows of the input. `z` is of the type of `s`, a bias and a
/// gradient of an output of the type of the activations; those and `s` may differ.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "cube"),
)]
pub trait QuantOps: ::burn::backend::Backend {
    /// Quantize-dequantize of `w [k, n]` with `s`, `z [g, n]`: to `[k, n]`.
    #[fusion(dtype = w, shape = w)]
    fn quant_fake(
        w: FloatTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        portable::fake_quantize::<Self>(w, s, z, bits)
    }

    /// Gradients of [`quant_fake`](Self::quant_fake) by `w`, `s` and `z`, of their shapes.
    #[fusion(meta = |w, s, z, _grad, _bits| (w.clone(), s.clone(), z.clone()))]
    fn quant_fake_backward(
        w: FloatTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        portable::fake_quantize_backward::<Self>(w, s, z, grad, bits)
    }

    /// Codes `[len, n]` of the words `[ceil(len * b / 32), n]`.
    #[fusion(dtype = words, shape = rows_of(*len, words))]
    fn quant_unpack(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        portable::unpack::<Self>(words, bits, len)
    }

    /// Codes `[g, len]` of the words `[g, ceil(len * b / 32)]`, which run along the columns.
    #[fusion(dtype = words, shape = Shape::new([words[0], *len]))]
    fn quant_unpack_columns(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        portable::unpack_columns::<Self>(words, bits, len)
    }

    /// `(q - z) * s`, `[d_input, n]`, in the type of `s`.
    #[fusion(dtype = s, shape = rows_of(*d_input, s))]
    fn quant_dequantize(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        portable::dequantize::<Self>(words, s, z, bits, d_input)
    }

    /// Gradients of [`quant_dequantize`](Self::quant_dequantize) by `s` and `z`.
    #[fusion(meta = |_words, s, z, _grad, _bits, _d_input| (s.clone(), z.clone()))]
    fn quant_dequantize_backward(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::dequantize_backward::<Self>(words, s, z, grad, bits, d_input)
    }

    /// `x [m, k]` times the packed weight: `[m, n]`.
    #[fusion(dtype = x, shape = rows_of(x[0], s))]
    fn quant_linear(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        portable::quant_linear::<Self>(x, words, s, z, bits)
    }

    /// [`quant_linear`](Self::quant_linear) plus `bias [n]`.
    #[fusion(dtype = x, shape = rows_of(x[0], s))]
    fn quant_linear_bias(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        portable::add_bias::<Self>(Self::quant_linear(x, words, s, z, bits), bias)
    }

    /// [`quant_linear`](Self::quant_linear) with zero points as they are stored, in words along the
    /// columns: `[g, ceil(n * b / 32)]`. Where nothing is differentiated, a backend may quantize the
    /// activations if [`Activations`](crate::Activations) says so.
    #[fusion(dtype = x, shape = rows_of(x[0], s))]
    fn quant_linear_packed(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        zeros: IntTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let z = portable::zero_points::<Self>(zeros, &s, bits);
        Self::quant_linear(x, words, s, z, bits)
    }

    /// [`quant_linear_packed`](Self::quant_linear_packed) plus `bias [n]`.
    #[fusion(dtype = x, shape = rows_of(x[0], s))]
    fn quant_linear_packed_bias(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        zeros: IntTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let z = portable::zero_points::<Self>(zeros, &s, bits);
        Self::quant_linear_bias(x, words, s, z, bias, bits)
    }

    /// Gradient of [`quant_linear`](Self::quant_linear) by `x`: `[m, d_input]`.
    #[fusion(dtype = grad, shape = Shape::new([grad[0], *d_input]))]
    fn quant_linear_backward_input(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        portable::quant_linear_backward_input::<Self>(words, s, z, grad, bits, d_input)
    }

    /// Gradients of [`quant_linear`](Self::quant_linear) by `s` and `z`, `[g, n]`.
    #[fusion(meta = |_x, _words, s, z, _grad, _bits| (s.clone(), z.clone()))]
    fn quant_linear_backward_scale(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::quant_linear_backward_scale::<Self>(x, words, s, z, grad, bits)
    }
}

#[cfg(feature = "ndarray")]
impl QuantOps for ::burn::backend::NdArray {}
#[cfg(feature = "tch")]
impl QuantOps for ::burn::backend::LibTorch {}
