//! Causal attention in Burn's ops.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// How many positions attend together.
const POSITIONS: usize = 64;

pub(super) fn causal(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, window: Option<usize>) -> Tensor<4> {
    let [batch, heads, queries, width] = q.dims();
    let [_, kv_heads, _, v_width] = v.dims();
    // Query heads that share a key head stay together: no key is copied.
    let shape = [batch, kv_heads, heads / kv_heads, queries, width];
    let q = (q / (width as f64).sqrt()).reshape(shape);
    let out = match queries {
        1 => of_one(q, k, v, window),
        _ => of_many(q, k, v, window),
    };
    out.reshape([batch, heads, queries, v_width])
}

/// Attention of one position to all keys. Queries are `[batch, kv_heads, share, 1, width]`.
fn of_one(q: Tensor<5>, k: Tensor<4>, v: Tensor<4>, window: Option<usize>) -> Tensor<5> {
    let [batch, kv_heads, share, _, width] = q.dims();
    let [_, _, keys, v_width] = v.dims();
    let seen = keys - window.unwrap_or(keys).min(keys)..keys;
    let (k, v) = (k.slice_dim(2, seen.clone()), v.slice_dim(2, seen));
    let q = q.reshape([batch, kv_heads, share, width]);
    let weights = softmax(q.matmul(k.swap_dims(2, 3)), 3);
    let out = weights.matmul(v);
    out.reshape([batch, kv_heads, share, 1, v_width])
}

/// A run of positions at a time, each to the keys that it may see: little is computed only to be masked.
///
/// Weights are divided by their sum after they are multiplied with the values, and the sum comes as one
/// more column of the values, so that fewer passes go over `[positions, keys]`, forward and backward.
fn of_many(q: Tensor<5>, k: Tensor<4>, v: Tensor<4>, window: Option<usize>) -> Tensor<5> {
    let [batch, kv_heads, share, queries, width] = q.dims();
    let [_, _, total, v_width] = v.dims();
    let (start, device) = (total - queries, q.device());
    let keys = k.swap_dims(2, 3);
    let ones = Tensor::ones([batch, kv_heads, total, 1], (&device, v.dtype()));
    let values = Tensor::cat(vec![v, ones], 3);
    let parts = (0..queries).step_by(POSITIONS).map(|first| {
        let last = (first + POSITIONS).min(queries);
        let rows = last - first;
        // From the first position that the first of these sees to the last one.
        let from = window.map_or(0, |window| (start + first + 1).saturating_sub(window));
        let keys_seen = from..start + last;
        let seen = keys_seen.len();
        let q = q.clone().slice_dim(3, first..last);
        let q = q.reshape([batch, kv_heads, share * rows, width]);
        let scores = q.matmul(keys.clone().slice_dim(3, keys_seen.clone()));
        let mask = causal_mask(rows, seen, window, scores.dtype(), &device);
        let scores = scores.reshape([batch, kv_heads, share, rows, seen]) + mask;
        let largest = scores.clone().detach().max_dim(4);
        let weights = (scores - largest).exp();
        let weights = weights.reshape([batch, kv_heads, share * rows, seen]);
        let out = weights.matmul(values.clone().slice_dim(2, keys_seen));
        let sums = out.clone().slice_dim(3, v_width..v_width + 1);
        let out = out.slice_dim(3, 0..v_width) / sums;
        out.reshape([batch, kv_heads, share, rows, v_width])
    });
    let parts: Vec<_> = parts.collect();
    Tensor::cat(parts, 3)
}

/// Minus infinity where one of the last `rows` of `total` positions would look ahead, or back over its
/// window: `[1, 1, 1, rows, total]`.
fn causal_mask(
    rows: usize,
    total: usize,
    window: Option<usize>,
    dtype: DType,
    device: &Device,
) -> Tensor<5> {
    let start = total - rows;
    let values: Vec<f32> = (0..rows * total)
        .map(|i| {
            let (own, other) = (start + i / total, i % total);
            let near = |window: usize| own - other < window;
            match other <= own && window.is_none_or(near) {
                true => 0.0,
                false => f32::NEG_INFINITY,
            }
        })
        .collect();
    let data = TensorData::new(values, [1, 1, 1, rows, total]);
    Tensor::from_data(data, (device, dtype))
}
