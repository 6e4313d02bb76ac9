//! Causal attention in Burn's ops, one tile of positions at a time.

use super::half::{is_half, widen};
use crate::api::in_type;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor};

/// Positions of a tile.
const POSITIONS: usize = 64;

/// Attention of queries at the last positions. Shapes are those of
/// [`causal_attention`](super::causal_attention).
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
    let weights = softmax(widen(q.matmul(k.swap_dims(2, 3))), 3);
    let out = in_type(weights, v.dtype()).matmul(v);
    out.reshape([batch, kv_heads, share, 1, v_width])
}

/// Attention of a run of positions at a time, each only to the keys that the run may attend to, so that few
/// masked values are computed.
///
/// Weights are multiplied with the values first and divided by their sum afterwards. The sum is computed as one more
/// column of the values. This needs fewer passes over `[positions, keys]`, forward and backward. In half precision that
/// column would round the sums: there, weights are divided in f32, and rounded for the product.
fn of_many(q: Tensor<5>, k: Tensor<4>, v: Tensor<4>, window: Option<usize>) -> Tensor<5> {
    let [batch, kv_heads, share, queries, width] = q.dims();
    let [_, _, total, v_width] = v.dims();
    let (start, device) = (total - queries, q.device());
    let keys = k.swap_dims(2, 3);
    let dtype = v.dtype();
    let half = is_half(dtype);
    let values = if half {
        v
    } else {
        let ones = Tensor::ones([batch, kv_heads, total, 1], (&device, dtype));
        Tensor::cat(vec![v, ones], 3)
    };
    // As far as the last tile's first position looks back.
    let last_tile = (queries - 1) / POSITIONS * POSITIONS;
    let reach = window.map_or(start + last_tile, |window| {
        (start + last_tile).min(window - 1)
    });
    let tile = POSITIONS.min(queries);
    let mask_type = if half { DType::F32 } else { dtype };
    let mask = causal_mask(tile, reach, window, mask_type, &device);
    let parts = (0..queries).step_by(POSITIONS).map(|first| {
        let last = (first + POSITIONS).min(queries);
        let rows = last - first;
        // From the first position that the first of these sees to the last one.
        let from = window.map_or(0, |window| (start + first + 1).saturating_sub(window));
        let keys_seen = from..start + last;
        let seen = keys_seen.len();
        let q = q.clone().slice_dim(3, first..last);
        let q = q.reshape([batch, kv_heads, share * rows, width]);
        let scores = widen(q.matmul(keys.clone().slice_dim(3, keys_seen.clone())));
        let columns = reach + rows - seen..reach + rows;
        let mask = mask.clone().slice([0..rows, columns]);
        let scores = scores.reshape([batch, kv_heads, share, rows, seen]) + mask.unsqueeze();
        let largest = scores.clone().detach().max_dim(4);
        let weights = (scores - largest).exp();
        let weights = weights.reshape([batch, kv_heads, share * rows, seen]);
        let values = values.clone().slice_dim(2, keys_seen);
        if half {
            let sums = weights.clone().sum_dim(3);
            let out = in_type(weights / sums, dtype).matmul(values);
            return out.reshape([batch, kv_heads, share, rows, v_width]);
        }
        let out = weights.matmul(values);
        let sums = out.clone().slice_dim(3, v_width..v_width + 1);
        let out = out.slice_dim(3, 0..v_width) / sums;
        out.reshape([batch, kv_heads, share, rows, v_width])
    });
    let parts: Vec<_> = parts.collect();
    Tensor::cat(parts, 3)
}

/// The mask of a tile of `rows` positions, `[rows, reach + rows]`: minus infinity for keys after a position, or before
/// its window. The keys go from `reach` before the tile's first position to its last one.
///
/// The mask depends only on distances, so it is the same for every tile. It is made on the device.
fn causal_mask(
    rows: usize,
    reach: usize,
    window: Option<usize>,
    dtype: DType,
    device: &Device,
) -> Tensor<2> {
    let columns = reach + rows;
    let own = Tensor::<1, Int>::arange(0..rows as i64, device).reshape([rows, 1]);
    let other = Tensor::<1, Int>::arange(-(reach as i64)..rows as i64, device);
    let ahead = other.reshape([1, columns]) - own;
    let mut hidden = ahead.clone().greater_elem(0);
    if let Some(window) = window {
        hidden = hidden.bool_or(ahead.lower_equal_elem(-(window as i64)));
    }
    Tensor::zeros([rows, columns], (device, dtype)).mask_fill(hidden, f32::NEG_INFINITY)
}
