//! The ops in terms of Burn's own. A backend without a faster body runs these, and every faster body is
//! tested against them.
//!
//! Shapes that do not fit together [raise](crate::OpError::raise) an error. Operands in half precision are computed in
//! f32, and the result is rounded once at the end.

use crate::check::{
    PackedShapes, ZeroPointShape, expect_column_words, expect_matrix, expect_quantizer,
    expect_shape, expect_words, required,
};
use crate::{Bits, QuantOps};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Scalar, TensorMetadata};
use burn::tensor::{BoolDType, DType, Shape, TensorData};

/// The smallest step size that training lets through.
pub const SCALE_MIN: f64 = 1e-4;
/// The largest step size that training lets through.
pub const SCALE_MAX: f64 = 1e4;

/// `[g, n]` as `[g, 1, n]`, to broadcast over the rows of a group.
fn per_group<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    let shape = t.shape();
    B::float_reshape(t, Shape::new([shape[0], 1, shape[1]]))
}

/// `[k, n]` as `[g, k / g, n]`.
fn grouped<B: Backend>(t: FloatTensor<B>, groups: usize) -> FloatTensor<B> {
    let shape = t.shape();
    B::float_reshape(t, Shape::new([groups, shape[0] / groups, shape[1]]))
}

/// `t` in another float type.
pub(crate) fn cast<B: Backend>(t: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if t.dtype() == dtype {
        t
    } else {
        B::float_cast(t, dtype.into())
    }
}

/// `t` in the type that codes and sums are computed in: f32, unless it is f64.
pub(crate) fn widen<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    match t.dtype() {
        DType::F64 => t,
        _ => cast::<B>(t, DType::F32),
    }
}

/// Sums `[g, k / g, n]` over the rows of each group, to `[g, n]`.
fn sum_group<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    let shape = t.shape();
    let sums = Shape::new([shape[0], shape[2]]);
    B::float_reshape(B::float_sum_dim(t, 1), sums)
}

/// What forward and backward of [`fake_quantize`] share, all grouped.
struct Quantized<B: Backend> {
    /// `w / s`, before rounding.
    ratio: FloatTensor<B>,
    /// `round(w / s) + z`, before the clamp.
    code: FloatTensor<B>,
    /// The clamped step size, `[g, 1, n]`.
    scale: FloatTensor<B>,
    /// The rounded, clamped zero point, `[g, 1, n]`.
    zero: FloatTensor<B>,
    max_code: Scalar,
}

impl<B: Backend> Quantized<B> {
    fn new(
        weight: FloatTensor<B>,
        scales: FloatTensor<B>,
        zero_points: FloatTensor<B>,
        bits: Bits,
    ) -> Self {
        let groups = scales.shape()[0];
        let (weight, scales, zero_points) = (
            widen::<B>(weight),
            widen::<B>(scales),
            widen::<B>(zero_points),
        );
        let max_code = Scalar::from(f64::from(bits.max_code()));
        let scale = B::float_clamp(scales, Scalar::from(SCALE_MIN), Scalar::from(SCALE_MAX));
        let zero = B::float_clamp(B::float_round(zero_points), Scalar::from(0.0f64), max_code);
        let (scale, zero) = (per_group::<B>(scale), per_group::<B>(zero));
        let ratio = B::float_div(grouped::<B>(weight, groups), scale.clone());
        let code = B::float_add(B::float_round(ratio.clone()), zero.clone());
        Self {
            ratio,
            code,
            scale,
            zero,
            max_code,
        }
    }

    /// `q - z`, with `q` clamped to the code range.
    fn centered(&self) -> FloatTensor<B> {
        let q = B::float_clamp(self.code.clone(), Scalar::from(0.0f64), self.max_code);
        B::float_sub(q, self.zero.clone())
    }
}

/// `(clamp(round(w / s) + z, 0, 2^b - 1) - z) * s`, with `s` clamped and `z` rounded and clamped.
pub fn fake_quantize<B: Backend>(
    weight: FloatTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    bits: Bits,
) -> FloatTensor<B> {
    expect_quantizer_of::<B>(&weight, &scales, &zero_points);
    let (shape, dtype) = (weight.shape(), weight.dtype());
    let quantized = Quantized::<B>::new(weight, scales, zero_points, bits);
    let centered = quantized.centered();
    let out = B::float_reshape(B::float_mul(centered, quantized.scale), shape);
    cast::<B>(out, dtype)
}

/// Gradients of [`fake_quantize`] by the weight `w`, the step sizes `s` and the zero points `z`. They go straight
/// through every rounding and through the clamps of `s` and `z`, but not through the clamp of the code.
///
/// With `i = 1` where the unclamped code is in range, else 0: `dw = G i`, `ds = sum G ((q - z) - i w / s)`,
/// `dz = sum -G s (1 - i)`.
pub fn fake_quantize_backward<B: Backend>(
    weight: FloatTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    expect_quantizer_of::<B>(&weight, &scales, &zero_points);
    expect_grad::<B>("fake_quantize", &grad, &weight.shape());
    let (shape, groups) = (weight.shape(), scales.shape()[0]);
    let (weight_dtype, scales_dtype, zero_points_dtype) =
        (weight.dtype(), scales.dtype(), zero_points.dtype());
    let grad = grouped::<B>(widen::<B>(grad), groups);
    let dtype = grad.dtype();
    let q = Quantized::<B>::new(weight, scales, zero_points, bits);

    let low = B::float_greater_equal_elem(q.code.clone(), Scalar::from(0.0f64), BoolDType::Native);
    let high = B::float_lower_equal_elem(q.code.clone(), q.max_code, BoolDType::Native);
    let inside = B::bool_into_float(B::bool_and(low, high), dtype.into());

    let d_weight = B::float_mul(grad.clone(), inside.clone());
    let slope = B::float_sub(q.centered(), B::float_mul(inside, q.ratio));
    let d_scales = sum_group::<B>(B::float_mul(grad.clone(), slope));
    // G (1 - i): the part of the gradient that did not reach the weight.
    let blocked = B::float_sub(grad, d_weight.clone());
    let d_zero_points = B::float_neg(sum_group::<B>(B::float_mul(blocked, q.scale)));
    (
        cast::<B>(B::float_reshape(d_weight, shape), weight_dtype),
        cast::<B>(d_scales, scales_dtype),
        cast::<B>(d_zero_points, zero_points_dtype),
    )
}

/// An integer column `[len, 1]` on the device of `like`, in its type.
fn column<B: Backend>(
    len: usize,
    like: &IntTensor<B>,
    value: impl Fn(usize) -> i64,
) -> IntTensor<B> {
    let values: Vec<i64> = (0..len).map(value).collect();
    let data = TensorData::new(values, [len, 1]).convert_dtype(like.dtype());
    B::int_from_data(data, &like.device())
}

/// Unpacks `[words, n]` to the codes `[len, n]`, as integers.
pub fn unpack<B: Backend>(codes: IntTensor<B>, bits: Bits, len: usize) -> IntTensor<B> {
    let columns = required(expect_words("unpack", &codes.shape(), bits, len));
    let b = bits.get();
    let expand = |t: IntTensor<B>| B::int_expand(t, Shape::new([len, columns]));
    let rows = |t: &IntTensor<B>, value: &dyn Fn(usize) -> i64| {
        let index = B::int_reshape(column::<B>(len, t, value), Shape::new([len]));
        B::int_select(t.clone(), 0, index)
    };
    let last = codes.shape()[0] as i64 - 1;
    let max_code = i64::from(bits.max_code());

    let low = rows(&codes, &|i| (i * b / 32) as i64);
    let shift = expand(column::<B>(len, &codes, |i| (i * b % 32) as i64));
    // An arithmetic shift may fill with ones from the top; the mask removes them.
    let unpacked =
        B::bitwise_and_scalar(B::bitwise_right_shift(low, shift), Scalar::from(max_code));
    if 32 % b == 0 {
        return unpacked;
    }

    // Some fields lie across two words. The top of the low part above may be wrong, so keep only the
    // bits that come from its word, and add the rest from the next word.
    let in_low = |i: usize| (32 - i * b % 32).min(b);
    let mask = expand(column::<B>(len, &codes, |i| (1 << in_low(i)) - 1));
    let unpacked = B::bitwise_and(unpacked, mask);
    let high = rows(&codes, &|i| ((i * b / 32) as i64 + 1).min(last));
    let mask = expand(column::<B>(len, &codes, |i| (1 << (b - in_low(i))) - 1));
    let shift = expand(column::<B>(len, &codes, |i| in_low(i) as i64));
    let high = B::bitwise_left_shift(B::bitwise_and(high, mask), shift);
    B::bitwise_or(unpacked, high)
}

/// Unpacks `[rows, words]` to the codes `[rows, len]`, as integers.
pub fn unpack_columns<B: Backend>(codes: IntTensor<B>, bits: Bits, len: usize) -> IntTensor<B> {
    required(expect_column_words(
        "unpack_columns",
        &codes.shape(),
        bits,
        len,
    ));
    B::int_transpose(unpack::<B>(B::int_transpose(codes), bits, len))
}

/// Zero points as numbers, in the type of the step sizes.
pub fn zero_points<B: QuantOps>(
    zero_points: IntTensor<B>,
    scales: &FloatTensor<B>,
    bits: Bits,
) -> FloatTensor<B> {
    let [groups, n] = required(expect_matrix("linear", "scales", &scales.shape()));
    let expected = [groups, bits.words(n)];
    required(expect_shape(
        "linear",
        "zero_points",
        &zero_points.shape(),
        &expected,
    ));
    let zero_points = B::quant_unpack_columns(zero_points, bits, n);
    B::int_into_float(zero_points, scales.dtype().into())
}

/// `q - z`, grouped.
fn centered<B: Backend>(
    codes: IntTensor<B>,
    zero_points: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    let (groups, dtype) = (zero_points.shape()[0], zero_points.dtype());
    let q = B::int_into_float(unpack::<B>(codes, bits, d_input), dtype.into());
    B::float_sub(grouped::<B>(q, groups), per_group::<B>(zero_points))
}

/// Raises an error unless step sizes and zero points fit a dense weight.
fn expect_quantizer_of<B: Backend>(
    weight: &FloatTensor<B>,
    scales: &FloatTensor<B>,
    zero_points: &FloatTensor<B>,
) {
    let (weight, scales, zero_points) = (weight.shape(), scales.shape(), zero_points.shape());
    required(expect_quantizer(
        "fake_quantize",
        &weight,
        &scales,
        &zero_points,
    ));
}

/// The shape `[d_input, d_output]` of a packed weight. Raises an error unless its tensors fit together.
fn expect_packed<B: Backend>(
    op: &'static str,
    codes: &IntTensor<B>,
    scales: &FloatTensor<B>,
    zero_points: &FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> [usize; 2] {
    let shapes = PackedShapes {
        codes: &codes.shape(),
        scales: &scales.shape(),
        zero_points: ZeroPointShape::Numbers(&zero_points.shape()),
        bits,
        d_input,
    };
    let [_, n] = required(shapes.expect(op));
    [d_input, n]
}

/// Raises an error unless a gradient has the given shape.
fn expect_grad<B: Backend>(op: &'static str, grad: &FloatTensor<B>, shape: &[usize]) {
    required(expect_shape(op, "grad", &grad.shape(), shape));
}

/// `(q - z) * s`, not yet rounded to the type of the step sizes.
fn dense<B: Backend>(
    codes: IntTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    let columns = scales.shape()[1];
    let (scales, zero_points) = (widen::<B>(scales), widen::<B>(zero_points));
    let weight = B::float_mul(
        centered::<B>(codes, zero_points, bits, d_input),
        per_group::<B>(scales),
    );
    B::float_reshape(weight, Shape::new([d_input, columns]))
}

/// `(q - z) * s`.
pub fn dequantize<B: Backend>(
    codes: IntTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    expect_packed::<B>("dequantize", &codes, &scales, &zero_points, bits, d_input);
    let dtype = scales.dtype();
    cast::<B>(dense::<B>(codes, scales, zero_points, bits, d_input), dtype)
}

/// Gradients of [`dequantize`] by step sizes and zero points, in their types.
pub fn dequantize_backward<B: Backend>(
    codes: IntTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = expect_packed::<B>("dequantize", &codes, &scales, &zero_points, bits, d_input);
    expect_grad::<B>("dequantize", &grad, &shape);
    let (scales_dtype, zero_points_dtype) = (scales.dtype(), zero_points.dtype());
    let (scales, zero_points) = (widen::<B>(scales), widen::<B>(zero_points));
    let grad = grouped::<B>(widen::<B>(grad), scales.shape()[0]);
    let centered = centered::<B>(codes, zero_points, bits, d_input);
    let d_scales = sum_group::<B>(B::float_mul(grad.clone(), centered));
    let d_zero_points = B::float_neg(B::float_mul(sum_group::<B>(grad), scales));
    (
        cast::<B>(d_scales, scales_dtype),
        cast::<B>(d_zero_points, zero_points_dtype),
    )
}

/// `x W'`.
pub fn quant_linear<B: Backend>(
    x: FloatTensor<B>,
    codes: IntTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    bits: Bits,
) -> FloatTensor<B> {
    let [_, d_input] = required(expect_matrix("linear", "x", &x.shape()));
    expect_packed::<B>("linear", &codes, &scales, &zero_points, bits, d_input);
    let dtype = x.dtype();
    let weight = dense::<B>(codes, scales, zero_points, bits, d_input);
    cast::<B>(product::<B>(widen::<B>(x), weight), dtype)
}

/// The product of two matrices. Some backends cannot do it where a side is 0.
fn product<B: Backend>(left: FloatTensor<B>, right: FloatTensor<B>) -> FloatTensor<B> {
    let ([rows, inner], [_, columns]) = (sides(&left.shape()), sides(&right.shape()));
    if rows * inner * columns == 0 {
        let shape = Shape::new([rows, columns]);
        return B::float_zeros(shape, &left.device(), left.dtype().into());
    }
    B::float_matmul(left, right)
}

fn sides(shape: &Shape) -> [usize; 2] {
    [shape[0], shape[1]]
}

/// Adds `bias [n]` to each row of `y [m, n]`.
pub fn add_bias<B: Backend>(y: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
    let [_, columns] = required(expect_matrix("linear", "y", &y.shape()));
    required(expect_shape("linear", "bias", &bias.shape(), &[columns]));
    B::float_add(y, B::float_reshape(bias, Shape::new([1, columns])))
}

/// Gradient of [`quant_linear`] by `x`.
pub fn quant_linear_backward_input<B: Backend>(
    codes: IntTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    const OP: &str = "linear, backward";
    let [_, n] = expect_packed::<B>(OP, &codes, &scales, &zero_points, bits, d_input);
    let [rows, _] = required(expect_matrix(OP, "grad", &grad.shape()));
    expect_grad::<B>(OP, &grad, &[rows, n]);
    let dtype = grad.dtype();
    let weight = B::float_transpose(dense::<B>(codes, scales, zero_points, bits, d_input));
    cast::<B>(product::<B>(widen::<B>(grad), weight), dtype)
}

/// Gradients of [`quant_linear`] by step sizes and zero points.
pub fn quant_linear_backward_scale<B: Backend>(
    x: FloatTensor<B>,
    codes: IntTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
) -> (FloatTensor<B>, FloatTensor<B>) {
    const OP: &str = "linear, backward";
    let [rows, d_input] = required(expect_matrix(OP, "x", &x.shape()));
    let [_, n] = expect_packed::<B>(OP, &codes, &scales, &zero_points, bits, d_input);
    expect_grad::<B>(OP, &grad, &[rows, n]);
    let (x, grad) = (widen::<B>(x), widen::<B>(grad));
    let d_weight = product::<B>(B::float_transpose(x), grad);
    dequantize_backward::<B>(codes, scales, zero_points, d_weight, bits, d_input)
}
