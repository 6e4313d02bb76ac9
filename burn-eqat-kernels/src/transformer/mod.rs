//! What a transformer does between its products, where training one on a CPU spends the time that those leave.
//!
//! The ops are Burn's own, put together. Flex, which makes exponentials one at a time and goes over memory for
//! each part of an op, has bodies of its own here, in f32: a vector at a time, in one pass forward and one back.

mod attention;

#[cfg(feature = "flex")]
use crate::flex::transformer::{self as flex, Operand, Operands};
use burn::tensor::activation::silu;
use burn::tensor::{DType, Tensor};

/// `e^x`, with gradients.
///
/// Off from the exact value by at most two units in the last place of f32 on Flex, and as Burn's elsewhere.
pub fn exp<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(operand) = Operands::all([Operand::of(&x)]) {
        drop(x);
        return flex::exp(operand);
    }
    x.exp()
}

/// `silu(gate) * up`, the middle of a SwiGLU feed-forward layer, with gradients.
///
/// # Shapes
///
/// - `gate`, `up` and output: the same
///
/// # Panics
///
/// As Burn's product does, when the shapes do not fit together.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if gate.dims() == up.dims()
        && let Some(operands) = Operands::all([Operand::of(&gate), Operand::of(&up)])
    {
        return flex::swiglu(operands);
    }
    silu(gate) * up
}

/// `x / sqrt(mean(x^2) + epsilon) * gamma` along the last dimension, with gradients by `x` and `gamma`.
///
/// # Shapes
///
/// - `x` and output: `[.., width]`
/// - `gamma`: `[width]`
///
/// # Panics
///
/// When `gamma` is of another width.
pub fn rms_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let (width, expected) = (gamma.dims()[0], x.dims()[D - 1]);
    assert_eq!(width, expected, "gamma is of another width than x");
    #[cfg(feature = "flex")]
    if let Some(operands) = Operands::all([Operand::of(&x), Operand::of(&gamma)]) {
        return flex::rms_norm(operands, epsilon as f32);
    }
    let dtype = x.dtype();
    // Squares of half precisions would overflow.
    let wide = match dtype {
        DType::F64 => x.clone(),
        _ => x.clone().cast(DType::F32),
    };
    let size = (wide.square().mean_dim(D - 1) + epsilon).sqrt();
    (x / size.cast(dtype)) * gamma.unsqueeze()
}

/// Rotary positions in the layout of Hugging Face checkpoints, with gradients by `x`: the first half of each head is
/// rotated against the second half, by the angles of its position.
///
/// # Shapes
///
/// - `x` and output: `[batch, heads, positions, width]`
/// - `cos`, `sin`: `[positions, width / 2]`
///
/// # Panics
///
/// When the tables are of other sizes, or the width is odd.
pub fn rotary(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<4> {
    let [_, _, positions, width] = x.dims();
    assert!(width.is_multiple_of(2), "heads of an odd width: {width}");
    for table in [&cos, &sin] {
        let expected = [positions, width / 2];
        assert_eq!(table.dims(), expected, "a table is of another size");
    }
    #[cfg(feature = "flex")]
    if let Some(x) = Operands::all([Operand::of(&x)])
        && let (Some(cos), Some(sin)) = (Operand::of(&cos), Operand::of(&sin))
    {
        return flex::rotary(x, [cos, sin]);
    }
    let (cos, sin): (Tensor<4>, Tensor<4>) = (cos.unsqueeze(), sin.unsqueeze());
    let first = x.clone().slice_dim(3, 0..width / 2);
    let second = x.slice_dim(3, width / 2..width);
    Tensor::cat(
        vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ],
        3,
    )
}

/// Causal self-attention, `softmax(q k^T / sqrt(width)) v`, with gradients: each query sees the keys up to its own
/// position. Query heads that share a key head follow each other.
///
/// The queries are of the last positions of as many as there are keys. With a window, a query sees so many keys at
/// most, its own the last of them.
///
/// On Flex no weights of attention are kept for the backward pass, nor are there any at a time but those of
/// 64 positions of a head.
///
/// # Shapes
///
/// - `q`: `[batch, heads, queries, width]`
/// - `k`: `[batch, kv_heads, keys, width]`, where `kv_heads` divides `heads`, and there are no fewer keys than queries
/// - `v`: `[batch, kv_heads, keys, v_width]`
/// - output: `[batch, heads, queries, v_width]`
///
/// # Panics
///
/// When the shapes do not fit together, or the window has no keys.
pub fn causal_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    window: Option<usize>,
) -> Tensor<4> {
    let [batch, heads, queries, width] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let [.., v_width] = v.dims();
    assert_eq!(k.dims(), [batch, kv_heads, keys, width], "keys do not fit");
    assert_eq!(
        v.dims(),
        [batch, kv_heads, keys, v_width],
        "values do not fit"
    );
    assert!(
        heads.is_multiple_of(kv_heads.max(1)),
        "{kv_heads} key heads do not divide {heads}"
    );
    assert!(queries <= keys, "{queries} queries of {keys} positions");
    assert!(window != Some(0), "a window of no keys");
    #[cfg(feature = "flex")]
    if let Some(q_k_v) = Operands::all([Operand::of(&q), Operand::of(&k), Operand::of(&v)]) {
        return flex::causal_attention(q_k_v, window);
    }
    attention::causal(q, k, v, window)
}
