//! The ops on Flex, Burn's CPU backend: SIMD bodies that read packed words.
//!
//! Everything is computed in f32. Half precisions are widened first and rounded once at the end, but for products in bf16 where the
//! CPU has them ([`bf16`]); f64 takes the portable bodies. Instructions are chosen at run time ([`level`]), and the strategy of a matmul by its sizes ([`select`]).

#[cfg(target_arch = "x86_64")]
mod bf16;
mod buffers;
mod cast;
mod dequantize;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod dot;
mod fake_quantize;
mod fields;
mod level;
mod linear;
#[cfg(target_arch = "x86_64")]
mod lookup;
mod matmul;
mod matrix;
mod matvec;
mod packed;
mod parallel;
mod product;
#[cfg(target_arch = "x86_64")]
mod repacked;
mod select;
mod tensors;
#[cfg(test)]
mod tests;
mod tile;
pub(crate) mod transformer;
mod unpack;
mod weight;

#[cfg(target_arch = "x86_64")]
pub(crate) use repacked::Repacked;

use crate::check::{
    expect_column_words, expect_matrix, expect_quantizer, expect_shape, expect_words, required,
};
use crate::{Activations, Bits, QuantOps, portable};
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_flex::FlexTensor;
use fake_quantize::{Gradients, Quantizer};
use level::Level;
use linear::linear;
use matrix::Products;
use packed::{PackedTensors, ZeroPoints};
use product::Product;
use tensors::{Floats, Words, finish, shape, values_mut, zeros};
use weight::Weight;

/// Whether an operand needs more than f32.
fn wide(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::F64
}

/// The sides of the input of a linear layer.
fn input_sides(op: &'static str, x: &FlexTensor) -> [usize; 2] {
    required(expect_matrix(op, "x", shape(x)))
}

impl QuantOps for Flex {
    fn fake_quantize(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        if wide(&weight) || wide(&scales) {
            return portable::fake_quantize::<Self>(weight, scales, zero_points, bits);
        }
        let (mut out, dtype) = (zeros(shape(&weight)), weight.dtype());
        quantizer([weight, scales, zero_points], bits, |quantizer| {
            quantizer.forward(Level::current(), values_mut(&mut out))
        });
        finish(out, dtype)
    }

    fn fake_quantize_backward(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if wide(&weight) || wide(&scales) {
            return portable::fake_quantize_backward::<Self>(
                weight,
                scales,
                zero_points,
                grad,
                bits,
            );
        }
        let types = [&weight, &scales, &zero_points].map(|tensor| tensor.dtype());
        let mut results = [&weight, &scales, &zero_points].map(|tensor| zeros(shape(tensor)));
        required(expect_shape(
            "fake_quantize",
            "grad",
            shape(&grad),
            shape(&weight),
        ));
        let grad = Floats::new(grad);
        let [dw, ds, dz] = &mut results;
        quantizer([weight, scales, zero_points], bits, |quantizer| {
            let gradients = Gradients {
                out: grad.values(),
                weight: values_mut(dw),
                scales: values_mut(ds),
                zero_points: values_mut(dz),
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

    fn quant_unpack(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        let columns = required(expect_words("unpack", shape(&codes), bits, len));
        let (shape, dtype) = ([len, columns], codes.dtype());
        let codes = unpack::unpack(&Words::new(codes).values(), bits, shape);
        tensors::codes(codes, shape, dtype)
    }

    fn quant_unpack_columns(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        let checked = expect_column_words("unpack_columns", shape(&codes), bits, len);
        let (shape, dtype) = ([required(checked), len], codes.dtype());
        let codes = unpack::unpack_columns(&Words::new(codes).values(), bits, shape);
        tensors::codes(codes, shape, dtype)
    }

    fn quant_dequantize(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        if wide(&scales) {
            return portable::dequantize::<Self>(codes, scales, zero_points, bits, d_input);
        }
        let dtype = scales.dtype();
        let z = ZeroPoints::Numbers(zero_points);
        let packed = PackedTensors::new("dequantize", codes, scales, z, bits, [0, d_input]);
        let mut dense = zeros([d_input, packed.problem.n]);
        packed.with(|weight| {
            dequantize::dequantize(Level::current(), weight, values_mut(&mut dense));
        });
        finish(dense, dtype)
    }

    fn quant_dequantize_backward(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        const OP: &str = "dequantize";
        if wide(&scales) {
            return portable::dequantize_backward::<Self>(
                codes,
                scales,
                zero_points,
                grad,
                bits,
                d_input,
            );
        }
        let z_type = zero_points.dtype();
        let z = ZeroPoints::Numbers(zero_points);
        let types = [scales.dtype(), z_type];
        let packed = PackedTensors::new(OP, codes, scales, z, bits, [0, d_input]);
        let dense = [d_input, packed.problem.n];
        required(expect_shape(OP, "grad", shape(&grad), &dense));
        let grad = Floats::new(grad);
        quantizer_gradients(&packed, types, |weight, ds, dz| {
            dequantize::dequantize_backward(Level::current(), weight, grad.values(), ds, dz)
        })
    }

    fn quant_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        const OP: &str = "linear";
        if wide(&x) || wide(&scales) {
            return portable::quant_linear::<Self>(x, codes, scales, zero_points, bits);
        }
        let (sides, z) = (input_sides(OP, &x), ZeroPoints::Numbers(zero_points));
        let packed = PackedTensors::new(OP, codes, scales, z, bits, sides);
        linear(OP, x, packed, None, Activations::Exact)
    }

    fn quant_linear_bias(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        const OP: &str = "linear";
        if wide(&x) || wide(&scales) {
            let y = portable::quant_linear::<Self>(x, codes, scales, zero_points, bits);
            return portable::add_bias::<Self>(y, bias);
        }
        let (sides, z) = (input_sides(OP, &x), ZeroPoints::Numbers(zero_points));
        let packed = PackedTensors::new(OP, codes, scales, z, bits, sides);
        linear(OP, x, packed, Some(bias), Activations::Exact)
    }

    fn quant_linear_packed(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: IntTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        const OP: &str = "linear";
        if wide(&x) || wide(&scales) {
            let z = portable::zero_points::<Self>(zero_points, &scales, bits);
            return portable::quant_linear::<Self>(x, codes, scales, z, bits);
        }
        let (sides, z) = (input_sides(OP, &x), ZeroPoints::Packed(zero_points));
        let packed = PackedTensors::new(OP, codes, scales, z, bits, sides);
        linear(OP, x, packed, None, Activations::current())
    }

    fn quant_linear_packed_bias(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: IntTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        const OP: &str = "linear";
        if wide(&x) || wide(&scales) {
            let z = portable::zero_points::<Self>(zero_points, &scales, bits);
            return Self::quant_linear_bias(x, codes, scales, z, bias, bits);
        }
        let (sides, z) = (input_sides(OP, &x), ZeroPoints::Packed(zero_points));
        let packed = PackedTensors::new(OP, codes, scales, z, bits, sides);
        linear(OP, x, packed, Some(bias), Activations::current())
    }

    fn quant_linear_backward_input(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        const OP: &str = "linear, backward";
        if wide(&grad) || wide(&scales) {
            return portable::quant_linear_backward_input::<Self>(
                codes,
                scales,
                zero_points,
                grad,
                bits,
                d_input,
            );
        }
        let dtype = grad.dtype();
        let [m, _] = required(expect_matrix(OP, "grad", shape(&grad)));
        let z = ZeroPoints::Numbers(zero_points);
        let packed = PackedTensors::new(OP, codes, scales, z, bits, [m, d_input]);
        required(expect_shape(
            OP,
            "grad",
            shape(&grad),
            &[m, packed.problem.n],
        ));
        required(expect_matrix(OP, "dx", &[m, d_input]));
        let level = Level::current();
        let products = Products::of(level, dtype);
        let grad = Floats::for_products(grad, products);
        let grad = grad.operand(packed.problem.n);
        let passes = matmul::input_passes(products, &packed.problem);
        let mut dx = Product::new(products, [m, d_input], dtype, passes);
        // SAFETY: it has this size, and the sums that so many passes need.
        unsafe {
            packed.with(|weight| matmul::input(level, products, weight, grad, dx.out()));
            dx.finish()
        }
    }

    fn quant_linear_backward_scale(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        const OP: &str = "linear, backward";
        if wide(&x) || wide(&scales) {
            return portable::quant_linear_backward_scale::<Self>(
                x,
                codes,
                scales,
                zero_points,
                grad,
                bits,
            );
        }
        let sides @ [_, d_input] = input_sides(OP, &x);
        let types = [scales.dtype(), zero_points.dtype()];
        let z = ZeroPoints::Numbers(zero_points);
        let packed = PackedTensors::new(OP, codes, scales, z, bits, sides);
        let out = [sides[0], packed.problem.n];
        required(expect_shape(OP, "grad", shape(&grad), &out));
        let level = Level::current();
        let products = Products::of(level, x.dtype());
        let [x, grad] = [x, grad].map(|of| Floats::for_products(of, products));
        let (x, grad) = (x.operand(d_input), grad.operand(packed.problem.n));
        quantizer_gradients(&packed, types, |weight, ds, dz| {
            matmul::scale(level, products, weight, x, grad, ds, dz)
        })
    }
}

/// Runs `body` on the quantizer of a dense weight.
fn quantizer(
    [weight, scales, zero_points]: [FloatTensor<Flex>; 3],
    bits: Bits,
    body: impl FnOnce(&Quantizer),
) {
    let checked = expect_quantizer(
        "fake_quantize",
        shape(&weight),
        shape(&scales),
        shape(&zero_points),
    );
    let [groups, n] = required(checked);
    let [weight, scales, zero_points] = [weight, scales, zero_points].map(Floats::new);
    body(&Quantizer {
        weight: weight.values(),
        scales: scales.values(),
        zero_points: zero_points.values(),
        groups,
        n,
        max_code: bits.max_code() as f32,
    });
}

/// Gradients by step sizes and zero points, in the given types. `body` adds them to zeros.
fn quantizer_gradients(
    packed: &PackedTensors,
    [scale_type, zero_type]: [DType; 2],
    body: impl FnOnce(&Weight, &mut [f32], &mut [f32]),
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let shape = [packed.problem.groups, packed.problem.n];
    let (mut ds, mut dz) = (zeros(shape), zeros(shape));
    packed.with(|weight| body(weight, values_mut(&mut ds), values_mut(&mut dz)));
    (finish(ds, scale_type), finish(dz, zero_type))
}
