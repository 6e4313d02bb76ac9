//! The ops on `Tensor`s. They check shapes first, and then dispatch to the tensor's backend.

use crate::capability::{Operand, expect_capable, expect_room, word_type};
use crate::check::{expect_column_words, expect_quantizer, expect_words};
use crate::{Bits, Fields, OpError, PackError, QuantOps, pack_codes};
use burn::backend::Dispatch;
use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData};

/// `tensor` in the float type that the op computes with. Gradients pass through.
pub(crate) fn in_type<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype {
        return tensor;
    }
    // Flex's own cast takes one number at a time.
    #[cfg(feature = "flex")]
    {
        use crate::flex::transformer::{self as flex, Argument, Arguments};

        if let Some(argument) = Arguments::all([Argument::any(&tensor)]) {
            drop(tensor);
            return flex::in_type(argument, dtype);
        }
    }
    tensor.cast(FloatDType::from(dtype))
}

/// Step sizes in a type that fits operands of type `dtype`. Half precisions and f32 may be mixed; f64 may
/// not be mixed with others.
pub(crate) fn beside(scales: Tensor<2>, dtype: DType) -> Tensor<2> {
    match (scales.dtype(), dtype) {
        (_, DType::F64) => in_type(scales, DType::F64),
        (DType::F64, _) => in_type(scales, DType::F32),
        _ => scales,
    }
}

/// Quantizes and dequantizes a weight so that it can be trained (the paper's equations 1 and 2).
///
/// With step sizes `s` and zero points `z`: `w' = (clamp(round(w / s) + z, 0, 2^b - 1) - z) * s`, where `s` is first
/// clamped to `[1e-4, 1e4]` and `z` rounded and clamped to the code range. Rounding is half to even. Gradients
/// pass straight through the roundings and the clamps of `s` and `z`. `w` gets no gradient where its code is
/// out of range.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat_kernels::{Bits, fake_quantize};
///
/// let device = Device::flex().autodiff();
/// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device).require_grad();
/// // Two groups of 32 rows. In 2 bits they have the values 0, 0.3, 0.6 and 0.9.
/// let scales = Tensor::<2>::full([2, 16], 0.3, &device).require_grad();
/// let zero_points = Tensor::<2>::zeros([2, 16], &device);
///
/// let quantized = fake_quantize(weight.clone(), scales.clone(), zero_points, Bits::Two)?;
/// let grads = (quantized - weight.clone()).square().mean().backward();
/// assert_eq!(weight.grad(&grads).unwrap().dims(), [64, 16]);
/// assert_eq!(scales.grad(&grads).unwrap().dims(), [2, 16]);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `weight`: `[d_input, d_output]`
/// - `scales`, `zero_points`: `[groups, d_output]`, where `groups` divides `d_input`
/// - output: `[d_input, d_output]`
///
/// # Errors
///
/// When the shapes do not fit together, or the device lacks a type of the operands or room for the
/// result.
pub fn fake_quantize(
    weight: Tensor<2>,
    scales: Tensor<2>,
    zero_points: Tensor<2>,
    bits: Bits,
) -> Result<Tensor<2>, OpError> {
    const OP: &str = "fake_quantize";
    let shapes = [weight.dims(), scales.dims(), zero_points.dims()];
    expect_quantizer(OP, &shapes[0], &shapes[1], &shapes[2])?;
    let operands = [
        Operand::new("weight", &shapes[0], weight.dtype()),
        Operand::new("scales", &shapes[1], scales.dtype()),
        Operand::new("zero_points", &shapes[2], zero_points.dtype()),
    ];
    expect_capable(OP, &weight.device(), &operands)?;
    // In a narrower type, a zero point could round to another code.
    let (scales, zero_points) = if scales.dtype() == zero_points.dtype() {
        (scales, zero_points)
    } else {
        (
            in_type(scales, DType::F32),
            in_type(zero_points, DType::F32),
        )
    };
    let scales = beside(scales, weight.dtype());
    let zero_points = in_type(zero_points, scales.dtype());
    Ok(Tensor::from_dispatch(Dispatch::fake_quantize(
        weight.into_dispatch(),
        scales.into_dispatch(),
        zero_points.into_dispatch(),
        bits,
    )))
}

/// Packs codes along their rows, on the host.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat_kernels::{Bits, pack};
///
/// let codes = Tensor::<2, Int>::from_data([[0], [1], [2], [3]], &Device::flex());
/// let words = pack(codes, Bits::Two)?;
/// assert_eq!(words.dims(), [1, 1]);
/// assert_eq!(words.into_scalar::<i32>(), 0b11_10_01_00);
/// # Ok::<(), burn_eqat_kernels::PackError>(())
/// ```
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
    pack_along(codes, 0, bits)
}

/// Packs codes along their columns, as zero points are packed, on the host.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat_kernels::{Bits, pack_columns};
///
/// let zero_points = Tensor::<2, Int>::from_data([[7, 8, 9]], &Device::flex());
/// let words = pack_columns(zero_points, Bits::Four)?;
/// assert_eq!(words.dims(), [1, 1]);
/// assert_eq!(words.into_scalar::<i32>(), 0x987);
/// # Ok::<(), burn_eqat_kernels::PackError>(())
/// ```
///
/// # Shapes
///
/// - `codes`: `[groups, d_output]`, each in `0..=bits.max_code()`
/// - output: words, `[groups, ceil(d_output * b / 32)]`, on the same device
///
/// # Errors
///
/// When a code does not fit in `bits`.
pub fn pack_columns(codes: Tensor<2, Int>, bits: Bits) -> Result<Tensor<2, Int>, PackError> {
    pack_along(codes, 1, bits)
}

fn pack_along(codes: Tensor<2, Int>, axis: usize, bits: Bits) -> Result<Tensor<2, Int>, PackError> {
    let (device, shape) = (codes.device(), codes.dims());
    let codes = codes.into_data();
    let packed = match codes.as_slice::<i32>() {
        Ok(codes) => pack_codes(codes, shape, axis, bits, Fields::Dense)?,
        Err(_) => {
            let codes: Vec<i64> = codes.iter::<i64>().collect();
            pack_codes(&codes, shape, axis, bits, Fields::Dense)?
        }
    };
    let words: Vec<i32> = packed.into_iter().map(|word| word as i32).collect();
    let mut packed = shape;
    packed[axis] = bits.words(shape[axis]);
    let data = TensorData::new(words, packed);
    Ok(Tensor::from_data(data, (&device, word_type(&device))))
}

/// Unpacks words to the codes of the first `d_input` rows, on the device.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat_kernels::{Bits, unpack};
///
/// let words = Tensor::<2, Int>::from_data([[0b11_10_01_00]], &Device::flex());
/// let codes = unpack(words, Bits::Two, 4)?;
/// assert_eq!(codes.dims(), [4, 1]);
/// assert_eq!(codes.into_data().iter::<i32>().collect::<Vec<_>>(), [0, 1, 2, 3]);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `codes`: words, `[ceil(d_input * b / 32), d_output]`
/// - output: `[d_input, d_output]`
///
/// # Errors
///
/// When there are not as many words as `d_input` codes need, or the device lacks room for the result.
pub fn unpack(
    codes: Tensor<2, Int>,
    bits: Bits,
    d_input: usize,
) -> Result<Tensor<2, Int>, OpError> {
    const OP: &str = "unpack";
    let d_output = expect_words(OP, &codes.dims(), bits, d_input)?;
    expect_word_type(OP, "codes", &codes)?;
    expect_room(OP, &codes.device(), [d_input, d_output])?;
    Ok(Tensor::from_dispatch(Dispatch::quant_unpack(
        codes.into_dispatch(),
        bits,
        d_input,
    )))
}

/// Unpacks words that are packed along the columns, as zero points are, to the codes of the first `d_output`
/// columns, on the device.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat_kernels::{Bits, unpack_columns};
///
/// let words = Tensor::<2, Int>::from_data([[0x987]], &Device::flex());
/// let zero_points = unpack_columns(words, Bits::Four, 3)?;
/// assert_eq!(zero_points.dims(), [1, 3]);
/// assert_eq!(zero_points.into_data().iter::<i32>().collect::<Vec<_>>(), [7, 8, 9]);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `codes`: words, `[groups, ceil(d_output * b / 32)]`
/// - output: `[groups, d_output]`
///
/// # Errors
///
/// When there are not as many words as `d_output` codes need, or the device lacks room for the result.
pub fn unpack_columns(
    codes: Tensor<2, Int>,
    bits: Bits,
    d_output: usize,
) -> Result<Tensor<2, Int>, OpError> {
    const OP: &str = "unpack_columns";
    let groups = expect_column_words(OP, &codes.dims(), bits, d_output)?;
    expect_word_type(OP, "codes", &codes)?;
    expect_room(OP, &codes.device(), [groups, d_output])?;
    Ok(Tensor::from_dispatch(Dispatch::quant_unpack_columns(
        codes.into_dispatch(),
        bits,
        d_output,
    )))
}

/// Fails unless the words are integers of 32 or 64 bits.
pub(crate) fn expect_word_type(
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
