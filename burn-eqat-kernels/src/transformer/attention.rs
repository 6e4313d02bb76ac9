//! Causal attention: its checks, and the selection of its body.

use super::half::{runs_wide, widen};
use super::{fused, tiled};
use crate::OpError;
use crate::api::in_type;
use crate::check::{expect_shape, expect_size};
#[cfg(feature = "flex")]
use crate::flex::transformer::{self as flex, Argument, Arguments};
use burn::tensor::Tensor;

/// Causal self-attention, `softmax(q k^T / sqrt(width)) v`, with gradients. Each query attends to the keys up to its own
/// position. Query heads that share a key head follow each other.
///
/// The queries are at the last positions, so earlier keys may come from a cache. With a window, a query attends to at
/// most that many keys, and the last of them is its own.
///
/// Attention weights are computed for 64 positions at a time. On Flex they are not kept for the backward pass. On GPUs,
/// with the `autotune` feature, f16 and bf16 run on Burn's fused attention if nothing is differentiated and there is no
/// window; else their softmax is in f32.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat_kernels::transformer::causal_attention;
///
/// let random = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Default, &Device::flex());
/// // Four query heads share two key heads.
/// let (q, k, v) = (random([1, 4, 8, 16]), random([1, 2, 8, 16]), random([1, 2, 8, 16]));
/// let y = causal_attention(q, k, v.clone(), None)?;
/// assert_eq!(y.dims(), [1, 4, 8, 16]);
/// // The first position attends to itself alone.
/// let [own, seen] = [y, v].map(|x| x.slice([0..1, 0..1, 0..1]));
/// assert!((own - seen).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `q`: `[batch, heads, queries, width]`
/// - `k`: `[batch, kv_heads, keys, width]`, where `kv_heads` divides `heads`, and there are at least as many keys as
///   queries
/// - `v`: `[batch, kv_heads, keys, v_width]`
/// - output: `[batch, heads, queries, v_width]`
///
/// # Errors
///
/// When the shapes do not fit together, or the window is empty.
pub fn causal_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    window: Option<usize>,
) -> Result<Tensor<4>, OpError> {
    const OP: &str = "causal_attention";
    let [batch, heads, queries, width] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let [.., v_width] = v.dims();
    expect_shape(OP, "k", &k.dims(), &[batch, kv_heads, keys, width])?;
    expect_shape(OP, "v", &v.dims(), &[batch, kv_heads, keys, v_width])?;
    let shared = kv_heads != 0 && heads.is_multiple_of(kv_heads) || heads == 0;
    expect_size(OP, "the number of heads", heads, shared, || {
        format!("a multiple of the {kv_heads} key heads")
    })?;
    expect_size(
        OP,
        "the number of queries",
        queries,
        queries <= keys,
        || format!("at most the {keys} keys"),
    )?;
    let size = window.unwrap_or(keys);
    expect_size(OP, "the window", size, window != Some(0), || {
        "at least 1".into()
    })?;
    // A window with all keys has no effect.
    let window = window.filter(|window| *window < keys);
    let dtype = q.dtype();
    let [q, k, v] = if runs_wide(&q) {
        [q, k, v].map(widen)
    } else {
        [q, k, v]
    };
    #[cfg(feature = "flex")]
    if let Some(q_k_v) = Arguments::all([Argument::of(&q), Argument::of(&k), Argument::of(&v)]) {
        let y = flex::causal_attention(q_k_v, window, dtype);
        return Ok(in_type(y, dtype));
    }
    if batch * heads * queries * v_width == 0 {
        let shape = [batch, heads, queries, v_width];
        return Ok(Tensor::zeros(shape, (&q.device(), dtype)));
    }
    let first = fused::positions(&q, &k, &v, window);
    Ok(in_type(split(q, k, v, window, first), dtype))
}

/// Burn's fused attention for the `first` positions, tiles for the others.
pub(super) fn split(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    window: Option<usize>,
    first: usize,
) -> Tensor<4> {
    let ([.., queries, _], [.., keys, _]) = (q.dims(), k.dims());
    if first == 0 {
        return tiled::causal(q, k, v, window);
    }
    let seen = keys - queries + first;
    let part = |x: &Tensor<4>| x.clone().slice_dim(2, 0..seen);
    let begun = fused::causal(q.clone().slice_dim(2, 0..first), part(&k), part(&v));
    if first == queries {
        return begun;
    }
    let rest = tiled::causal(q.slice_dim(2, first..queries), k, v, window);
    Tensor::cat(vec![begun, rest], 2)
}
