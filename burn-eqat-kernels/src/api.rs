//! The ops on `Tensor`s: shapes checked first, then dispatched to the tensor's backend.

use crate::capability::{Operand, expect_capable, expect_room};
use crate::error::{expect_groups, expect_shape};
use crate::{Bits, Fields, OpError, PackError, QuantOps, pack_codes};
use burn::backend::Dispatch;
use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData};

/// `tensor` in the float type that it is computed with, with gradients.
fn in_type<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    match tensor.dtype() == dtype {
        true => tensor,
        false => tensor.cast(FloatDType::from(dtype)),
    }
}

/// Step sizes beside operands of type `dtype`: as they are, since half precisions and f32 go together,
/// but f64 goes with itself only.
fn beside(s: Tensor<2>, dtype: DType) -> Tensor<2> {
    match (s.dtype(), dtype) {
        (_, DType::F64) => in_type(s, DType::F64),
        (DType::F64, _) => in_type(s, DType::F32),
        _ => s,
    }
}

/// Quantizes and dequantizes a weight so that it can be trained (the paper's equations 1 and 2).
///
/// `w' = (clamp(round(w / s) + z, 0, 2^b - 1) - z) * s`, where `s` is first clamped to
/// `[1e-4, 1e4]` and `z` rounded and clamped to the code range. Rounding is half to even. Gradients
/// pass straight through the roundings and the clamps of `s` and `z`; where the code is out of
/// range, none reaches `w`.
///
/// # Shapes
///
/// - `w`: `[d_input, d_output]`
/// - `s`, `z`: `[groups, d_output]`, where `groups` divides `d_input`
/// - output: `[d_input, d_output]`
///
/// # Errors
///
/// When the shapes do not fit together, or the device lacks a type of the operands or room for the
/// result.
pub fn fake_quantize(
    w: Tensor<2>,
    s: Tensor<2>,
    z: Tensor<2>,
    bits: Bits,
) -> Result<Tensor<2>, OpError> {
    const OP: &str = "fake_quantize";
    let ([k, n], [groups, _]) = (w.dims(), s.dims());
    expect_groups(OP, k, groups)?;
    expect_shape(OP, "s", &s.dims(), &[groups, n])?;
    expect_shape(OP, "z", &z.dims(), &[groups, n])?;
    let operands = [
        Operand::new("w", &[k, n], w.dtype()),
        Operand::new("s", &[groups, n], s.dtype()),
        Operand::new("z", &[groups, n], z.dtype()),
    ];
    expect_capable(OP, &w.device(), &operands)?;
    // Rounded to a narrower type first, a zero point could round to another code.
    let (s, z) = match s.dtype() == z.dtype() {
        true => (s, z),
        false => (in_type(s, DType::F32), in_type(z, DType::F32)),
    };
    let s = beside(s, w.dtype());
    let z = in_type(z, s.dtype());
    Ok(Tensor::from_dispatch(Dispatch::quant_fake(
        w.into_dispatch(),
        s.into_dispatch(),
        z.into_dispatch(),
        bits,
    )))
}

/// Packs codes along their rows, on the host.
///
/// # Shapes
///
/// - `codes`: `[d_input, d_output]`, each in `0..=bits.max_code()`
/// - output: words, `[ceil(d_input * b / 32), d_output]`, on the same device
///
/// # Errors
///
/// When a code does not fit in `bits`.
pub fn pack(codes: Tensor<2, Int>, bits: Bits) -> Result<Tensor<2, Int>, PackError> {
    let device = codes.device();
    let [k, n] = codes.dims();
    let codes = codes.into_data();
    let packed = match codes.as_slice::<i32>() {
        Ok(codes) => pack_codes(codes, [k, n], 0, bits, Fields::Dense)?,
        Err(_) => {
            let codes: Vec<i64> = codes.iter::<i64>().collect();
            pack_codes(&codes, [k, n], 0, bits, Fields::Dense)?
        }
    };
    let words: Vec<i32> = packed.into_iter().map(|word| word as i32).collect();
    let data = TensorData::new(words, [bits.words(k), n]);
    Ok(Tensor::from_data(data, (&device, DType::I32)))
}

/// Unpacks words to the codes of the first `d_input` rows, on the device.
///
/// # Shapes
///
/// - `words`: `[ceil(d_input * b / 32), d_output]`
/// - output: `[d_input, d_output]`
///
/// # Errors
///
/// When there are not as many words as `d_input` codes need.
pub fn unpack(
    words: Tensor<2, Int>,
    bits: Bits,
    d_input: usize,
) -> Result<Tensor<2, Int>, OpError> {
    const OP: &str = "unpack";
    let [_, n] = words.dims();
    expect_shape(OP, "words", &words.dims(), &[bits.words(d_input), n])?;
    expect_words(OP, "words", &words)?;
    expect_room(OP, &words.device(), [d_input, n])?;
    Ok(Tensor::from_dispatch(Dispatch::quant_unpack(
        words.into_dispatch(),
        bits,
        d_input,
    )))
}

/// Unpacks words that run along the columns, as zero points' do, to the codes of the first `d_output`
/// columns, on the device.
///
/// # Shapes
///
/// - `words`: `[groups, ceil(d_output * b / 32)]`
/// - output: `[groups, d_output]`
///
/// # Errors
///
/// When there are not as many words as `d_output` codes need.
pub fn unpack_columns(
    words: Tensor<2, Int>,
    bits: Bits,
    d_output: usize,
) -> Result<Tensor<2, Int>, OpError> {
    let [groups, _] = words.dims();
    const OP: &str = "unpack_columns";
    let expected = [groups, bits.words(d_output)];
    expect_shape(OP, "words", &words.dims(), &expected)?;
    expect_words(OP, "words", &words)?;
    expect_room(OP, &words.device(), [groups, d_output])?;
    Ok(Tensor::from_dispatch(Dispatch::quant_unpack_columns(
        words.into_dispatch(),
        bits,
        d_output,
    )))
}

/// The dense weight of packed codes: `(q - z) * s`, with gradients by `s` and `z`.
///
/// # Shapes
///
/// - `words`: `[ceil(d_input * b / 32), d_output]`
/// - `s`, `z`: `[groups, d_output]`, where `groups` divides `d_input`
/// - output: `[d_input, d_output]`, in the type of `s`
///
/// # Errors
///
/// When the shapes do not fit together, or the device lacks a type of the operands or room for the
/// result.
pub fn dequantize(
    words: Tensor<2, Int>,
    s: Tensor<2>,
    z: Tensor<2>,
    bits: Bits,
    d_input: usize,
) -> Result<Tensor<2>, OpError> {
    const OP: &str = "dequantize";
    expect_packed(OP, &words, &s, bits, d_input)?;
    expect_shape(OP, "z", &z.dims(), &s.dims())?;
    let [_, n] = s.dims();
    let operands = [
        Operand::new("s", &s.dims(), s.dtype()),
        Operand::new("z", &z.dims(), z.dtype()),
        Operand::new("the dense weight", &[d_input, n], s.dtype()),
    ];
    expect_capable(OP, &s.device(), &operands)?;
    let z = in_type(z, s.dtype());
    Ok(Tensor::from_dispatch(Dispatch::quant_dequantize(
        words.into_dispatch(),
        s.into_dispatch(),
        z.into_dispatch(),
        bits,
        d_input,
    )))
}

/// A linear layer from packed codes: `x W' + bias`, with gradients by `x`, `s`, `z` and `bias`.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`
/// - `words`: `[ceil(d_input * b / 32), d_output]`
/// - `s`, `z`: `[groups, d_output]`, where `groups` divides `d_input`
/// - `bias`: `[d_output]`
/// - output: `[.., d_output]`
///
/// # Errors
///
/// When the shapes do not fit together, or the device lacks a type of the operands or room for the
/// result.
pub fn quant_linear<const D: usize>(
    x: Tensor<D>,
    words: Tensor<2, Int>,
    s: Tensor<2>,
    z: Tensor<2>,
    bias: Option<Tensor<1>>,
    bits: Bits,
) -> Result<Tensor<D>, OpError> {
    const OP: &str = "quant_linear";
    let operand = Operand::new("z", &z.dims(), z.dtype());
    expect_shape(OP, "z", &z.dims(), &s.dims())?;
    let (product, shape) = Product::new(OP, x, words, s, bias, bits, &[operand])?;
    let z = in_type(z, product.s.dtype()).into_dispatch();
    let Product { x, words, s, bias } = product;
    let (x, words, s) = (x.into_dispatch(), words.into_dispatch(), s.into_dispatch());
    let y = match bias {
        Some(bias) => Dispatch::quant_linear_bias(x, words, s, z, bias.into_dispatch(), bits),
        None => Dispatch::quant_linear(x, words, s, z, bits),
    };
    Ok(Tensor::<2>::from_dispatch(y).reshape(shape))
}

/// [`quant_linear`] with zero points as they are stored, with gradients by `x`, `s` and `bias`: what a
/// packed layer runs, since a backend may read them in place.
///
/// Where nothing is differentiated, activations may be quantized, if [`Activations`](crate::Activations)
/// says so.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`
/// - `words`: `[ceil(d_input * b / 32), d_output]`
/// - `s`: `[groups, d_output]`, where `groups` divides `d_input`
/// - `zeros`: `[groups, ceil(d_output * b / 32)]`
/// - `bias`: `[d_output]`
/// - output: `[.., d_output]`
///
/// # Errors
///
/// As [`quant_linear`].
pub fn quant_linear_packed<const D: usize>(
    x: Tensor<D>,
    words: Tensor<2, Int>,
    s: Tensor<2>,
    zeros: Tensor<2, Int>,
    bias: Option<Tensor<1>>,
    bits: Bits,
) -> Result<Tensor<D>, OpError> {
    const OP: &str = "quant_linear_packed";
    let [groups, n] = s.dims();
    expect_shape(OP, "zeros", &zeros.dims(), &[groups, bits.words(n)])?;
    expect_words(OP, "zeros", &zeros)?;
    let (product, shape) = Product::new(OP, x, words, s, bias, bits, &[])?;
    let zeros = zeros.into_dispatch();
    let Product { x, words, s, bias } = product;
    let (x, words, s) = (x.into_dispatch(), words.into_dispatch(), s.into_dispatch());
    let y = match bias {
        Some(bias) => {
            Dispatch::quant_linear_packed_bias(x, words, s, zeros, bias.into_dispatch(), bits)
        }
        None => Dispatch::quant_linear_packed(x, words, s, zeros, bits),
    };
    Ok(Tensor::<2>::from_dispatch(y).reshape(shape))
}

/// Checked operands of a linear layer, in the types that they are computed with.
struct Product {
    x: Tensor<2>,
    words: Tensor<2, Int>,
    s: Tensor<2>,
    bias: Option<Tensor<1>>,
}

impl Product {
    /// With the shape of the result; `more` are operands to check beside these.
    fn new<const D: usize>(
        op: &'static str,
        x: Tensor<D>,
        words: Tensor<2, Int>,
        s: Tensor<2>,
        bias: Option<Tensor<1>>,
        bits: Bits,
        more: &[Operand],
    ) -> Result<(Self, [usize; D]), OpError> {
        let mut shape = x.dims();
        let d_input = shape[D - 1];
        expect_packed(op, &words, &s, bits, d_input)?;
        let [_, n] = s.dims();
        if let Some(bias) = &bias {
            expect_shape(op, "bias", &bias.dims(), &[n])?;
        }
        let rows = shape[..D - 1].iter().product();
        let mut operands = vec![
            Operand::new("x", &[rows, d_input], x.dtype()),
            Operand::new("s", &s.dims(), s.dtype()),
            Operand::new("y", &[rows, n], x.dtype()),
        ];
        operands.extend(
            bias.iter()
                .map(|b| Operand::new("bias", &b.dims(), b.dtype())),
        );
        operands.extend(more);
        expect_capable(op, &x.device(), &operands)?;
        let product = Product {
            s: beside(s, x.dtype()),
            bias: bias.map(|bias| in_type(bias, x.dtype())),
            x: x.reshape([rows, d_input]),
            words,
        };
        shape[D - 1] = n;
        Ok((product, shape))
    }
}

/// Fails unless the words have 32 bits, or 64 that hold them.
pub(crate) fn expect_words(
    op: &'static str,
    operand: &'static str,
    words: &Tensor<2, Int>,
) -> Result<(), OpError> {
    match words.dtype() {
        DType::I32 | DType::U32 | DType::I64 => Ok(()),
        dtype => Err(OpError::Type {
            op,
            operand,
            dtype,
            device: format!("{:?}", words.device()),
        }),
    }
}

pub(crate) fn expect_packed(
    op: &'static str,
    words: &Tensor<2, Int>,
    s: &Tensor<2>,
    bits: Bits,
    d_input: usize,
) -> Result<(), OpError> {
    let [groups, n] = s.dims();
    expect_groups(op, d_input, groups)?;
    expect_shape(op, "words", &words.dims(), &[bits.words(d_input), n])?;
    expect_words(op, "words", words)
}
