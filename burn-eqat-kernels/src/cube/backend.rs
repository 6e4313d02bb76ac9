//! The ops of [`QuantOps`] on CubeCL's backend.

use super::choose::{self, Forward, Input, Scale};
use super::dequantize::{self, Region};
use super::fake_quantize::Quantizer;
use super::plan::Limits;
use super::tensors::{self, dims, rows};
use super::weight::PackedWeight;
use crate::problem::Problem;
use crate::{Bits, QuantOps};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::numeric::zeros;

pub(crate) fn packed(
    words: IntTensor<CubeBackend>,
    s: FloatTensor<CubeBackend>,
    z: FloatTensor<CubeBackend>,
    bits: Bits,
    [m, k]: [usize; 2],
    activations: DType,
) -> PackedWeight {
    let limits = Limits::of(&s.client, activations);
    let [groups, n] = dims(&s);
    let problem = Problem {
        m,
        k,
        n,
        groups,
        bits,
    };
    PackedWeight::new(words, s, z, problem, limits)
}

/// The packed linear layer; of nothing, nothing is launched.
fn linear(
    x: FloatTensor<CubeBackend>,
    words: IntTensor<CubeBackend>,
    s: FloatTensor<CubeBackend>,
    z: FloatTensor<CubeBackend>,
    bias: Option<FloatTensor<CubeBackend>>,
    bits: Bits,
) -> FloatTensor<CubeBackend> {
    let (dtype, shape) = (x.dtype, dims(&x));
    let weight = packed(words, s, z, bits, shape, dtype);
    if shape[0] == 0 || weight.problem.n == 0 {
        return tensors::empty(&x, [shape[0], weight.problem.n], dtype);
    }
    choose::forward(Forward {
        x: rows(x, dtype),
        weight,
        bias: bias.map(|bias| rows(bias, dtype)),
    })
}

impl QuantOps for CubeBackend {
    fn quant_fake(
        w: FloatTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        Quantizer::new(w, s, z, bits).forward()
    }

    fn quant_fake_backward(
        w: FloatTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        Quantizer::new(w, s, z, bits).backward(grad)
    }

    fn quant_unpack(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        let limits = Limits::of(&words.client, DType::F32);
        dequantize::unpack(words, bits, len, &limits)
    }

    fn quant_unpack_columns(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        dequantize::unpack_columns(words, bits, len)
    }

    fn quant_dequantize(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        let dtype = s.dtype;
        let weight = packed(words, s, z, bits, [0, d_input], dtype);
        let region = Region::all(d_input, weight.problem.n);
        dequantize::dequantize(&weight, region, dtype)
    }

    fn quant_dequantize_backward(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let dtype = s.dtype;
        let weight = packed(words, s, z, bits, [0, d_input], dtype);
        dequantize::dequantize_backward(&weight, grad, 0, dtype)
    }

    fn quant_linear(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        linear(x, words, s, z, None, bits)
    }

    fn quant_linear_bias(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        linear(x, words, s, z, Some(bias), bits)
    }

    fn quant_linear_backward_input(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        let (dtype, [m, n]) = (grad.dtype, dims(&grad));
        if m == 0 || n == 0 {
            return zeros(grad.device.clone(), Shape::new([m, d_input]), dtype);
        }
        choose::input(Input {
            weight: packed(words, s, z, bits, [m, d_input], dtype),
            grad: rows(grad, dtype),
        })
    }

    fn quant_linear_backward_scale(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (dtype, shape) = (x.dtype, dims(&x));
        if shape[0] == 0 || dims(&s)[1] == 0 {
            let none = zeros(s.device.clone(), Shape::new(dims(&s)), s.dtype);
            return (none.clone(), none);
        }
        choose::scale(Scale {
            x: rows(x, dtype),
            grad: rows(grad, dtype),
            weight: packed(words, s, z, bits, shape, dtype),
        })
    }
}
