//! The ops on Flex, Burn's CPU backend: SIMD bodies that read packed words.
//!
//! Everything is computed in f32; half precisions are widened before and rounded once after, and f64
//! takes the portable bodies. Instructions are chosen when the program runs ([`level`]).

mod codes;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod dot;
mod fake_quantize;
mod fields;
mod level;
#[cfg(target_arch = "x86_64")]
mod lookup;
mod matrix;
mod matvec;
mod parallel;
mod product;
#[cfg(target_arch = "x86_64")]
mod repacked;
mod tensors;
#[cfg(test)]
mod tests;
mod tile;
pub(crate) mod transformer;
mod weight;

#[cfg(target_arch = "x86_64")]
pub(crate) use repacked::Repacked;

use crate::problem::Problem;
use crate::{Activations, Bits, QuantOps, portable};
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_flex::FlexTensor;
use fake_quantize::{Gradients, Quantizer};
use level::Level;
use tensors::{Floats, Words, dims, finish, values_mut, zeros};
use weight::{Weight, Zeros};

/// Whether an operand is computed in more than f32.
fn wide(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::F64
}

/// Operands of a packed weight.
struct Operands {
    words: Words,
    s: Floats,
    z: ZeroPoints,
    problem: Problem,
}

/// Zero points, as numbers or as they are stored.
enum ZeroPoints {
    Floats(Floats),
    Words(Words),
}

impl Operands {
    fn new(
        words: IntTensor<Flex>,
        s: FloatTensor<Flex>,
        z: ZeroPoints,
        bits: Bits,
        [m, k]: [usize; 2],
    ) -> Self {
        let [groups, n] = dims(&s);
        Operands {
            words: Words::new(words),
            s: Floats::new(s),
            z,
            problem: Problem {
                m,
                k,
                n,
                groups,
                bits,
            },
        }
    }

    /// With zero points as numbers.
    fn with_zeros(
        words: IntTensor<Flex>,
        s: FloatTensor<Flex>,
        z: FloatTensor<Flex>,
        bits: Bits,
        shape: [usize; 2],
    ) -> Self {
        Self::new(words, s, ZeroPoints::Floats(Floats::new(z)), bits, shape)
    }

    /// Runs `body` on the weight.
    fn with<R>(&self, body: impl FnOnce(&Weight) -> R) -> R {
        let words = self.words.values();
        let weight = |z| Weight {
            problem: self.problem,
            words: &words,
            s: self.s.values(),
            z,
        };
        match &self.z {
            ZeroPoints::Floats(z) => body(&weight(Zeros::Floats(z.values()))),
            ZeroPoints::Words(z) => body(&weight(Zeros::Words(&z.values()))),
        }
    }
}

/// `x W + y`, by the way that suits the number of rows.
fn forward(level: Level, weight: &Weight, fast: bool, x: &[f32], y: &mut [f32]) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if let Some(digits) = dot::digits(level, &weight.problem, fast)
        && dot::forward(level, weight, digits, x, y)
    {
        return;
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = fast;
    match matvec::takes(&weight.problem) {
        true => matvec::forward(level, weight, x, y),
        false => product::forward(level, weight, x, y),
    }
}

/// `x W + bias`, with quantized activations if they are to be `fast`.
fn linear(
    x: FloatTensor<Flex>,
    operands: Operands,
    bias: Option<FloatTensor<Flex>>,
    fast: bool,
) -> FloatTensor<Flex> {
    let (rows, dtype) = (dims(&x)[0], x.dtype());
    let x = Floats::new(x);
    let mut y = zeros([rows, operands.problem.n]);
    let values = values_mut(&mut y);
    if values.is_empty() {
        return finish(y, dtype);
    }
    if let Some(bias) = bias.map(Floats::new) {
        let rows = values.chunks_exact_mut(operands.problem.n);
        rows.for_each(|row| row.copy_from_slice(bias.values()));
    }
    operands.with(|weight| forward(Level::current(), weight, fast, x.values(), values));
    finish(y, dtype)
}

/// The packed linear layer with zero points in words.
fn linear_packed(
    x: FloatTensor<Flex>,
    words: IntTensor<Flex>,
    s: FloatTensor<Flex>,
    z: IntTensor<Flex>,
    bias: Option<FloatTensor<Flex>>,
    bits: Bits,
) -> FloatTensor<Flex> {
    let shape = dims(&x);
    let z = ZeroPoints::Words(Words::new(z));
    let operands = Operands::new(words, s, z, bits, shape);
    let fast = Activations::current() == Activations::Int8;
    linear(x, operands, bias, fast)
}

impl QuantOps for Flex {
    fn quant_fake(
        w: FloatTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        if wide(&w) || wide(&s) {
            return portable::fake_quantize::<Self>(w, s, z, bits);
        }
        let (shape, dtype) = (dims(&w), w.dtype());
        let mut out = zeros(shape);
        quantizer([w, s, z], bits, |quantizer| {
            quantizer.forward(Level::current(), values_mut(&mut out))
        });
        finish(out, dtype)
    }

    fn quant_fake_backward(
        w: FloatTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if wide(&w) || wide(&s) {
            return portable::fake_quantize_backward::<Self>(w, s, z, grad, bits);
        }
        let types = [&w, &s, &z].map(|tensor| tensor.dtype());
        let mut results = [dims(&w), dims(&s), dims(&z)].map(zeros);
        let grad = Floats::new(grad);
        let [dw, ds, dz] = &mut results;
        quantizer([w, s, z], bits, |quantizer| {
            let gradients = Gradients {
                out: grad.values(),
                w: values_mut(dw),
                s: values_mut(ds),
                z: values_mut(dz),
            };
            quantizer.backward(Level::current(), gradients)
        });
        let [dw, ds, dz] = results;
        (
            finish(dw, types[0]),
            finish(ds, types[1]),
            finish(dz, types[2]),
        )
    }

    fn quant_unpack(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        let (shape, dtype) = ([len, dims(&words)[1]], words.dtype());
        let codes = codes::unpack(&Words::new(words).values(), bits, shape);
        tensors::codes(codes, shape, dtype)
    }

    fn quant_unpack_columns(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        let (shape, dtype) = ([dims(&words)[0], len], words.dtype());
        let codes = codes::unpack_columns(&Words::new(words).values(), bits, shape);
        tensors::codes(codes, shape, dtype)
    }

    fn quant_dequantize(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        if wide(&s) {
            return portable::dequantize::<Self>(words, s, z, bits, d_input);
        }
        let dtype = s.dtype();
        let operands = Operands::with_zeros(words, s, z, bits, [0, d_input]);
        let mut w = zeros([d_input, operands.problem.n]);
        operands.with(|weight| {
            codes::dequantize(Level::current(), weight, values_mut(&mut w));
        });
        finish(w, dtype)
    }

    fn quant_dequantize_backward(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if wide(&s) {
            return portable::dequantize_backward::<Self>(words, s, z, grad, bits, d_input);
        }
        let grad = Floats::new(grad);
        steps(words, s, z, bits, [0, d_input], |weight, ds, dz| {
            codes::dequantize_backward(Level::current(), weight, grad.values(), ds, dz)
        })
    }

    fn quant_linear(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        if wide(&x) || wide(&s) {
            return portable::quant_linear::<Self>(x, words, s, z, bits);
        }
        let shape = dims(&x);
        linear(
            x,
            Operands::with_zeros(words, s, z, bits, shape),
            None,
            false,
        )
    }

    fn quant_linear_bias(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        if wide(&x) || wide(&s) {
            let y = portable::quant_linear::<Self>(x, words, s, z, bits);
            return portable::add_bias::<Self>(y, bias);
        }
        let shape = dims(&x);
        linear(
            x,
            Operands::with_zeros(words, s, z, bits, shape),
            Some(bias),
            false,
        )
    }

    fn quant_linear_packed(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        zeros: IntTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        if wide(&x) || wide(&s) {
            let z = portable::zero_points::<Self>(zeros, &s, bits);
            return portable::quant_linear::<Self>(x, words, s, z, bits);
        }
        linear_packed(x, words, s, zeros, None, bits)
    }

    fn quant_linear_packed_bias(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        zeros: IntTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        if wide(&x) || wide(&s) {
            let z = portable::zero_points::<Self>(zeros, &s, bits);
            return Self::quant_linear_bias(x, words, s, z, bias, bits);
        }
        linear_packed(x, words, s, zeros, Some(bias), bits)
    }

    fn quant_linear_backward_input(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        if wide(&grad) || wide(&s) {
            return portable::quant_linear_backward_input::<Self>(words, s, z, grad, bits, d_input);
        }
        let (dtype, m) = (grad.dtype(), dims(&grad)[0]);
        let operands = Operands::with_zeros(words, s, z, bits, [m, d_input]);
        let grad = Floats::new(grad);
        let mut dx = zeros([m, d_input]);
        operands.with(|weight| {
            product::input(Level::current(), weight, grad.values(), values_mut(&mut dx))
        });
        finish(dx, dtype)
    }

    fn quant_linear_backward_scale(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if wide(&x) || wide(&s) {
            return portable::quant_linear_backward_scale::<Self>(x, words, s, z, grad, bits);
        }
        let shape = dims(&x);
        let (x, grad) = (Floats::new(x), Floats::new(grad));
        steps(words, s, z, bits, shape, |weight, ds, dz| {
            product::scale(Level::current(), weight, x.values(), grad.values(), ds, dz)
        })
    }
}

/// Runs `body` on a weight in training.
fn quantizer([w, s, z]: [FloatTensor<Flex>; 3], bits: Bits, body: impl FnOnce(&Quantizer)) {
    let [groups, n] = dims(&s);
    let [w, s, z] = [w, s, z].map(Floats::new);
    body(&Quantizer {
        w: w.values(),
        s: s.values(),
        z: z.values(),
        groups,
        n,
        max_code: bits.max_code() as f32,
    });
}

/// Gradients by `s` and `z`, of their types, which `body` adds to zeros.
fn steps(
    words: IntTensor<Flex>,
    s: FloatTensor<Flex>,
    z: FloatTensor<Flex>,
    bits: Bits,
    shape: [usize; 2],
    body: impl FnOnce(&Weight, &mut [f32], &mut [f32]),
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let (s_type, z_type) = (s.dtype(), z.dtype());
    let (mut ds, mut dz) = (zeros(dims(&s)), zeros(dims(&z)));
    let operands = Operands::with_zeros(words, s, z, bits, shape);
    operands.with(|weight| body(weight, values_mut(&mut ds), values_mut(&mut dz)));
    (finish(ds, s_type), finish(dz, z_type))
}
