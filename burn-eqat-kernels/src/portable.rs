//! The ops in terms of Burn's own: what a backend without a faster body runs, and the oracle that
//! every faster body is tested against.
//!
//! Shapes that do not fit together raise an [`OpError`](crate::OpError). All is
//! computed in f32 where operands are in half precision, and rounded once at the end.

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
    let s = t.shape();
    B::float_reshape(t, Shape::new([s[0], 1, s[1]]))
}

/// `[k, n]` as `[g, k / g, n]`.
fn grouped<B: Backend>(t: FloatTensor<B>, groups: usize) -> FloatTensor<B> {
    let s = t.shape();
    B::float_reshape(t, Shape::new([groups, s[0] / groups, s[1]]))
}

/// `t` in another float type.
fn cast<B: Backend>(t: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if t.dtype() == dtype {
        t
    } else {
        B::float_cast(t, dtype.into())
    }
}

/// `t` in the type that codes and sums are computed in: f32, unless it is f64.
fn widen<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    match t.dtype() {
        DType::F64 => t,
        _ => cast::<B>(t, DType::F32),
    }
}

/// Sums `[g, k / g, n]` over the rows of each group, to `[g, n]`.
fn sum_group<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    let s = t.shape();
    let shape = Shape::new([s[0], s[2]]);
    B::float_reshape(B::float_sum_dim(t, 1), shape)
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
    fn new(w: FloatTensor<B>, s: FloatTensor<B>, z: FloatTensor<B>, bits: Bits) -> Self {
        let groups = s.shape()[0];
        let (w, s, z) = (widen::<B>(w), widen::<B>(s), widen::<B>(z));
        let max_code = Scalar::from(f64::from(bits.max_code()));
        let scale = B::float_clamp(s, Scalar::from(SCALE_MIN), Scalar::from(SCALE_MAX));
        let zero = B::float_clamp(B::float_round(z), Scalar::from(0.0f64), max_code);
        let (scale, zero) = (per_group::<B>(scale), per_group::<B>(zero));
        let ratio = B::float_div(grouped::<B>(w, groups), scale.clone());
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
    w: FloatTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    bits: Bits,
) -> FloatTensor<B> {
    expect_quantizer_of::<B>(&w, &s, &z);
    let (shape, dtype) = (w.shape(), w.dtype());
    let quantized = Quantized::<B>::new(w, s, z, bits);
    let centered = quantized.centered();
    let out = B::float_reshape(B::float_mul(centered, quantized.scale), shape);
    cast::<B>(out, dtype)
}

/// Gradients of [`fake_quantize`] by `w`, `s` and `z`, straight through every rounding and through
/// the clamps of `s` and `z`; the clamp of the code is a true one.
///
/// With `i = 1` where the unclamped code is in range: `dw = G i`, `ds = sum G ((q - z) - i w / s)`,
/// `dz = sum -G s (1 - i)`.
pub fn fake_quantize_backward<B: Backend>(
    w: FloatTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    expect_quantizer_of::<B>(&w, &s, &z);
    expect_grad::<B>("fake_quantize", &grad, &w.shape());
    let (shape, groups) = (w.shape(), s.shape()[0]);
    let (w_dtype, s_dtype, z_dtype) = (w.dtype(), s.dtype(), z.dtype());
    let grad = grouped::<B>(widen::<B>(grad), groups);
    let dtype = grad.dtype();
    let q = Quantized::<B>::new(w, s, z, bits);

    let low = B::float_greater_equal_elem(q.code.clone(), Scalar::from(0.0f64), BoolDType::Native);
    let high = B::float_lower_equal_elem(q.code.clone(), q.max_code, BoolDType::Native);
    let inside = B::bool_into_float(B::bool_and(low, high), dtype.into());

    let dw = B::float_mul(grad.clone(), inside.clone());
    let slope = B::float_sub(q.centered(), B::float_mul(inside, q.ratio));
    let ds = sum_group::<B>(B::float_mul(grad.clone(), slope));
    // G (1 - i) is what did not reach the weight.
    let blocked = B::float_sub(grad, dw.clone());
    let dz = B::float_neg(sum_group::<B>(B::float_mul(blocked, q.scale)));
    (
        cast::<B>(B::float_reshape(dw, shape), w_dtype),
        cast::<B>(ds, s_dtype),
        cast::<B>(dz, z_dtype),
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
pub fn unpack<B: Backend>(words: IntTensor<B>, bits: Bits, len: usize) -> IntTensor<B> {
    let columns = required(expect_words("unpack", &words.shape(), bits, len));
    let b = bits.get();
    let expand = |t: IntTensor<B>| B::int_expand(t, Shape::new([len, columns]));
    let rows = |t: &IntTensor<B>, value: &dyn Fn(usize) -> i64| {
        let index = B::int_reshape(column::<B>(len, t, value), Shape::new([len]));
        B::int_select(t.clone(), 0, index)
    };
    let last = words.shape()[0] as i64 - 1;
    let max_code = i64::from(bits.max_code());

    let low = rows(&words, &|i| (i * b / 32) as i64);
    let shift = expand(column::<B>(len, &words, |i| (i * b % 32) as i64));
    // An arithmetic shift fills with ones from the top; the mask takes them off again.
    let codes = B::bitwise_and_scalar(B::bitwise_right_shift(low, shift), Scalar::from(max_code));
    if 32 % b == 0 {
        return codes;
    }

    // Fields that lie across two words: the low part above may have a wrong top, so take just the
    // bits that its word has, and add the rest from the next word.
    let in_low = |i: usize| (32 - i * b % 32).min(b);
    let mask = expand(column::<B>(len, &words, |i| (1 << in_low(i)) - 1));
    let codes = B::bitwise_and(codes, mask);
    let high = rows(&words, &|i| ((i * b / 32) as i64 + 1).min(last));
    let mask = expand(column::<B>(len, &words, |i| (1 << (b - in_low(i))) - 1));
    let shift = expand(column::<B>(len, &words, |i| in_low(i) as i64));
    let high = B::bitwise_left_shift(B::bitwise_and(high, mask), shift);
    B::bitwise_or(codes, high)
}

/// Unpacks `[rows, words]` to the codes `[rows, len]`, as integers.
pub fn unpack_columns<B: Backend>(words: IntTensor<B>, bits: Bits, len: usize) -> IntTensor<B> {
    required(expect_column_words(
        "unpack_columns",
        &words.shape(),
        bits,
        len,
    ));
    B::int_transpose(unpack::<B>(B::int_transpose(words), bits, len))
}

/// Zero points as numbers, in the type of the step sizes.
pub fn zero_points<B: QuantOps>(
    words: IntTensor<B>,
    s: &FloatTensor<B>,
    bits: Bits,
) -> FloatTensor<B> {
    let [groups, n] = required(expect_matrix("linear", "scales", &s.shape()));
    let expected = [groups, bits.words(n)];
    required(expect_shape(
        "linear",
        "zero_points",
        &words.shape(),
        &expected,
    ));
    let codes = B::quant_unpack_columns(words, bits, n);
    B::int_into_float(codes, s.dtype().into())
}

/// `q - z`, grouped.
fn centered<B: Backend>(
    words: IntTensor<B>,
    z: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    let (groups, dtype) = (z.shape()[0], z.dtype());
    let q = B::int_into_float(unpack::<B>(words, bits, d_input), dtype.into());
    B::float_sub(grouped::<B>(q, groups), per_group::<B>(z))
}

/// Raises an error unless step sizes and zero points are those of a dense weight.
fn expect_quantizer_of<B: Backend>(w: &FloatTensor<B>, s: &FloatTensor<B>, z: &FloatTensor<B>) {
    let (w, s, z) = (w.shape(), s.shape(), z.shape());
    required(expect_quantizer("fake_quantize", &w, &s, &z));
}

/// The shape `[d_input, d_output]` of a packed weight; raises an error unless its tensors are those of one.
fn expect_packed<B: Backend>(
    op: &'static str,
    words: &IntTensor<B>,
    s: &FloatTensor<B>,
    z: &FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> [usize; 2] {
    let shapes = PackedShapes {
        codes: &words.shape(),
        scales: &s.shape(),
        zero_points: ZeroPointShape::Numbers(&z.shape()),
        bits,
        d_input,
    };
    let [_, n] = required(shapes.expect(op));
    [d_input, n]
}

/// Raises an error unless a gradient has the shape of what it is of.
fn expect_grad<B: Backend>(op: &'static str, grad: &FloatTensor<B>, shape: &[usize]) {
    required(expect_shape(op, "grad", &grad.shape(), shape));
}

/// `(q - z) * s`, not rounded to the type of `s`.
fn dense<B: Backend>(
    words: IntTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    let columns = s.shape()[1];
    let (s, z) = (widen::<B>(s), widen::<B>(z));
    let w = B::float_mul(centered::<B>(words, z, bits, d_input), per_group::<B>(s));
    B::float_reshape(w, Shape::new([d_input, columns]))
}

/// `(q - z) * s`.
pub fn dequantize<B: Backend>(
    words: IntTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    expect_packed::<B>("dequantize", &words, &s, &z, bits, d_input);
    let dtype = s.dtype();
    cast::<B>(dense::<B>(words, s, z, bits, d_input), dtype)
}

/// Gradients of [`dequantize`] by `s` and `z`, in their types.
pub fn dequantize_backward<B: Backend>(
    words: IntTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = expect_packed::<B>("dequantize", &words, &s, &z, bits, d_input);
    expect_grad::<B>("dequantize", &grad, &shape);
    let (s_dtype, z_dtype) = (s.dtype(), z.dtype());
    let (s, z) = (widen::<B>(s), widen::<B>(z));
    let grad = grouped::<B>(widen::<B>(grad), s.shape()[0]);
    let centered = centered::<B>(words, z, bits, d_input);
    let ds = sum_group::<B>(B::float_mul(grad.clone(), centered));
    let dz = B::float_neg(B::float_mul(sum_group::<B>(grad), s));
    (cast::<B>(ds, s_dtype), cast::<B>(dz, z_dtype))
}

/// `x W'`.
pub fn quant_linear<B: Backend>(
    x: FloatTensor<B>,
    words: IntTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    bits: Bits,
) -> FloatTensor<B> {
    let [_, d_input] = required(expect_matrix("linear", "x", &x.shape()));
    expect_packed::<B>("linear", &words, &s, &z, bits, d_input);
    let dtype = x.dtype();
    let w = dense::<B>(words, s, z, bits, d_input);
    cast::<B>(B::float_matmul(widen::<B>(x), w), dtype)
}

/// Adds `bias [n]` to each row of `y [m, n]`.
pub fn add_bias<B: Backend>(y: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
    let [_, columns] = required(expect_matrix("linear", "y", &y.shape()));
    required(expect_shape("linear", "bias", &bias.shape(), &[columns]));
    B::float_add(y, B::float_reshape(bias, Shape::new([1, columns])))
}

/// Gradient of [`quant_linear`] by `x`.
pub fn quant_linear_backward_input<B: Backend>(
    words: IntTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
) -> FloatTensor<B> {
    const OP: &str = "linear, backward";
    let [_, n] = expect_packed::<B>(OP, &words, &s, &z, bits, d_input);
    let [rows, _] = required(expect_matrix(OP, "grad", &grad.shape()));
    expect_grad::<B>(OP, &grad, &[rows, n]);
    let dtype = grad.dtype();
    let w = B::float_transpose(dense::<B>(words, s, z, bits, d_input));
    cast::<B>(B::float_matmul(widen::<B>(grad), w), dtype)
}

/// Gradients of [`quant_linear`] by `s` and `z`.
pub fn quant_linear_backward_scale<B: Backend>(
    x: FloatTensor<B>,
    words: IntTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    grad: FloatTensor<B>,
    bits: Bits,
) -> (FloatTensor<B>, FloatTensor<B>) {
    const OP: &str = "linear, backward";
    let [rows, d_input] = required(expect_matrix(OP, "x", &x.shape()));
    let [_, n] = expect_packed::<B>(OP, &words, &s, &z, bits, d_input);
    expect_grad::<B>(OP, &grad, &[rows, n]);
    let (x, grad) = (widen::<B>(x), widen::<B>(grad));
    let dw = B::float_matmul(B::float_transpose(x), grad);
    dequantize_backward::<B>(words, s, z, dw, bits, d_input)
}
