//! The ops of [`QuantOps`] on CubeCL's backend.
//!
//! Kernels are launched unchecked, and safe code may call these methods with any operands. So each method checks
//! all lengths once before it launches anything.

use super::dequantize::{self, Region};
use super::fake_quantize::Quantizer;
use super::linear::matmul::{Forward, InputGradient, ScaleGradient};
use super::linear::select;
use super::plan::limits::Limits;
use super::tensors::{self, dims, rows};
use super::unpack;
use super::weight::{DeviceWeight, ZeroPoints};
use crate::check::{
    PackedShapes, ZeroPointShape, expect_matrix, expect_quantizer, expect_shape, required,
};
use crate::{Bits, QuantOps};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::numeric::zeros;
use burn_cubecl::tensor::CubeTensor;

/// Panics unless the operands of a packed weight fit together.
fn expect_packed(
    op: &'static str,
    codes: &CubeTensor,
    scales: &CubeTensor,
    zero_points: &ZeroPoints,
    bits: Bits,
    d_input: usize,
) {
    let shape = match zero_points {
        ZeroPoints::Numbers(zero_points) | ZeroPoints::Words(zero_points) => zero_points.shape(),
    };
    let shapes = PackedShapes {
        codes: &codes.shape(),
        scales: &scales.shape(),
        zero_points: match zero_points {
            ZeroPoints::Numbers(_) => ZeroPointShape::Numbers(&shape),
            ZeroPoints::Words(_) => ZeroPointShape::Packed(&shape),
        },
        bits,
        d_input,
    };
    required(shapes.expect(op));
}

/// Panics unless `tensor` has this shape.
fn expect(op: &'static str, operand: &'static str, tensor: &CubeTensor, shape: &[usize]) {
    required(expect_shape(op, operand, &tensor.shape(), shape));
}

/// The packed linear layer. An empty result launches nothing.
fn linear(
    x: FloatTensor<CubeBackend>,
    codes: IntTensor<CubeBackend>,
    scales: FloatTensor<CubeBackend>,
    zero_points: ZeroPoints,
    bias: Option<FloatTensor<CubeBackend>>,
    bits: Bits,
) -> FloatTensor<CubeBackend> {
    const OP: &str = "quant_linear";
    let [_, k] = required(expect_matrix(OP, "x", &x.shape()));
    expect_packed(OP, &codes, &scales, &zero_points, bits, k);
    if let Some(bias) = &bias {
        expect(OP, "bias", bias, &[dims(&scales)[1]]);
    }
    let (dtype, shape) = (x.dtype, dims(&x));
    let weight = DeviceWeight::new(codes, scales, zero_points, bits, shape, dtype);
    if shape[0] == 0 || weight.problem.n == 0 {
        return tensors::empty(&x, [shape[0], weight.problem.n], dtype);
    }
    select::forward(Forward {
        x: rows(x, dtype),
        weight,
        bias: bias.map(|bias| rows(bias, dtype)),
    })
}

impl QuantOps for CubeBackend {
    fn fake_quantize(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        required(expect_quantizer(
            "fake_quantize",
            &weight.shape(),
            &scales.shape(),
            &zero_points.shape(),
        ));
        Quantizer::new(weight, scales, zero_points, bits).forward()
    }

    fn fake_quantize_backward(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        const OP: &str = "fake_quantize (backward)";
        required(expect_quantizer(
            OP,
            &weight.shape(),
            &scales.shape(),
            &zero_points.shape(),
        ));
        expect(OP, "grad", &grad, &weight.shape());
        Quantizer::new(weight, scales, zero_points, bits).backward(grad)
    }

    fn quant_unpack(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        const OP: &str = "unpack";
        let [_, n] = required(expect_matrix(OP, "codes", &codes.shape()));
        expect(OP, "codes", &codes, &[bits.words(len), n]);
        let limits = Limits::of(&codes.client, DType::F32);
        unpack::unpack(codes, bits, len, &limits)
    }

    fn quant_unpack_columns(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        const OP: &str = "unpack_columns";
        let [rows, _] = required(expect_matrix(OP, "codes", &codes.shape()));
        expect(OP, "codes", &codes, &[rows, bits.words(len)]);
        let dtype = codes.dtype;
        unpack::unpack_columns(codes, bits, len, dtype)
    }

    fn quant_dequantize(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        let zero_points = ZeroPoints::Numbers(zero_points);
        expect_packed("dequantize", &codes, &scales, &zero_points, bits, d_input);
        let dtype = scales.dtype;
        let weight = DeviceWeight::new(codes, scales, zero_points, bits, [0, d_input], dtype);
        let region = Region::all(d_input, weight.problem.n);
        dequantize::dequantize(&weight, region, dtype)
    }

    fn quant_dequantize_backward(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        const OP: &str = "dequantize (backward)";
        let zero_points = ZeroPoints::Numbers(zero_points);
        expect_packed(OP, &codes, &scales, &zero_points, bits, d_input);
        expect(OP, "grad", &grad, &[d_input, dims(&scales)[1]]);
        let dtype = scales.dtype;
        let weight = DeviceWeight::new(codes, scales, zero_points, bits, [0, d_input], dtype);
        dequantize::dequantize_backward(&weight, grad, 0, dtype)
    }

    fn quant_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        linear(
            x,
            codes,
            scales,
            ZeroPoints::Numbers(zero_points),
            None,
            bits,
        )
    }

    fn quant_linear_bias(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        linear(
            x,
            codes,
            scales,
            ZeroPoints::Numbers(zero_points),
            Some(bias),
            bits,
        )
    }

    fn quant_linear_packed(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: IntTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        linear(x, codes, scales, ZeroPoints::Words(zero_points), None, bits)
    }

    fn quant_linear_packed_bias(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: IntTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        linear(
            x,
            codes,
            scales,
            ZeroPoints::Words(zero_points),
            Some(bias),
            bits,
        )
    }

    fn quant_linear_backward_input(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        const OP: &str = "quant_linear (backward)";
        let zero_points = ZeroPoints::Numbers(zero_points);
        expect_packed(OP, &codes, &scales, &zero_points, bits, d_input);
        let [m, _] = required(expect_matrix(OP, "grad", &grad.shape()));
        let n = dims(&scales)[1];
        expect(OP, "grad", &grad, &[m, n]);
        let dtype = grad.dtype;
        if m == 0 || n == 0 {
            return zeros(grad.device.clone(), Shape::new([m, d_input]), dtype);
        }
        select::input(InputGradient {
            weight: DeviceWeight::new(codes, scales, zero_points, bits, [m, d_input], dtype),
            grad: rows(grad, dtype),
        })
    }

    fn quant_linear_backward_scale(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        bits: Bits,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        const OP: &str = "quant_linear (backward)";
        let [m, k] = required(expect_matrix(OP, "x", &x.shape()));
        let zero_points = ZeroPoints::Numbers(zero_points);
        expect_packed(OP, &codes, &scales, &zero_points, bits, k);
        let n = dims(&scales)[1];
        expect(OP, "grad", &grad, &[m, n]);
        let dtype = x.dtype;
        if m == 0 || n == 0 {
            let none = zeros(
                scales.device.clone(),
                Shape::new(dims(&scales)),
                scales.dtype,
            );
            return (none.clone(), none);
        }
        select::scale(ScaleGradient {
            x: rows(x, dtype),
            grad: rows(grad, dtype),
            weight: DeviceWeight::new(codes, scales, zero_points, bits, [m, k], dtype),
        })
    }
}
