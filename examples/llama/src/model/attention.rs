use super::{KvCache, Rope};
use crate::LlamaConfig;
use burn::module::Module;
use burn::nn::{RmsNorm, RmsNormConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use burn_eqat::kernels::causal_weights;
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// Causal self-attention with grouped queries: several query heads share a key and value head.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, to `heads * head_dim`.
    pub q_proj: QuantLinear,
    /// Keys, to `kv_heads * head_dim`.
    pub k_proj: QuantLinear,
    /// Values, to `kv_heads * head_dim`.
    pub v_proj: QuantLinear,
    /// Back to the hidden width.
    pub o_proj: QuantLinear,
    /// Norm of each head's queries, in families that have one.
    pub q_norm: Option<RmsNorm>,
    /// Norm of each head's keys.
    pub k_norm: Option<RmsNorm>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Positions attended to, the newest among them; none for all.
    window: Option<usize>,
}

impl Attention {
    /// The layer of block `block`, with weights at random.
    pub fn new(config: &LlamaConfig, block: usize, device: &Device) -> Self {
        let linear = |d_input, d_output, bias| {
            QuantLinearConfig::new(d_input, d_output)
                .with_bias(bias)
                .init(device)
        };
        let norm = || {
            let norm = RmsNormConfig::new(config.head_dim()).with_epsilon(config.rms_norm_eps);
            config.qk_norm().then(|| norm.init(device))
        };
        let (qkv, out) = config.attention_biases();
        let (heads, kv_heads) = (config.num_attention_heads, config.kv_heads());
        let head_dim = config.head_dim();
        Self {
            q_proj: linear(config.hidden_size, heads * head_dim, qkv),
            k_proj: linear(config.hidden_size, kv_heads * head_dim, qkv),
            v_proj: linear(config.hidden_size, kv_heads * head_dim, qkv),
            o_proj: linear(heads * head_dim, config.hidden_size, out),
            q_norm: norm(),
            k_norm: norm(),
            heads,
            kv_heads,
            head_dim,
            window: config.window(block),
        }
    }

    /// Attends over the input and what the cache holds.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, seq, hidden]`
    pub fn forward(&self, x: Tensor<3>, rope: &Rope, cache: Option<&mut KvCache>) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let start = cache.as_ref().map_or(0, |cache| cache.len());
        let heads = |t: Tensor<3>, heads| -> Tensor<4> {
            t.reshape([batch, seq, heads, self.head_dim])
                .swap_dims(1, 2)
        };
        let normed = |norm: &Option<RmsNorm>, x: Tensor<4>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let q = heads(self.q_proj.forward(x.clone()), self.heads);
        let k = heads(self.k_proj.forward(x.clone()), self.kv_heads);
        let q = rope.apply(normed(&self.q_norm, q), start);
        let k = rope.apply(normed(&self.k_norm, k), start);
        let v = heads(self.v_proj.forward(x), self.kv_heads);
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v),
            None => (k, v),
        };
        // Query heads that share a key head stay together: no key is copied.
        let share = self.heads / self.kv_heads;
        let q = q.reshape([batch, self.kv_heads, share, seq, self.head_dim]);
        let q = q / (self.head_dim as f64).sqrt();
        let out = match seq {
            1 => attend_one(q, k, v, self.window),
            _ => attend_causally(q, k, v, start, self.window),
        };
        let out = out.reshape([batch, self.heads, seq, self.head_dim]);
        let out = out
            .swap_dims(1, 2)
            .reshape([batch, seq, self.heads * self.head_dim]);
        self.o_proj.forward(out)
    }
}

/// Attention of one position to all keys. Queries are `[batch, kv_heads, share, 1, head_dim]`, keys
/// and values `[batch, kv_heads, total, head_dim]`.
fn attend_one(q: Tensor<5>, k: Tensor<4>, v: Tensor<4>, window: Option<usize>) -> Tensor<5> {
    let [batch, kv_heads, share, seq, dim] = q.dims();
    let [_, _, total, _] = k.dims();
    let seen = total - window.unwrap_or(total).min(total)..total;
    let (k, v) = (k.slice_dim(2, seen.clone()), v.slice_dim(2, seen));
    let q = q.reshape([batch, kv_heads, share * seq, dim]);
    let weights = softmax(q.matmul(k.swap_dims(2, 3)), 3);
    let out = weights.matmul(v);
    out.reshape([batch, kv_heads, share, seq, dim])
}

/// How many positions attend together.
const POSITIONS: usize = 64;

/// Causal attention, a run of positions at a time, each to the keys that it may see: little is computed
/// only to be masked.
///
/// Weights are divided by their sum after they are multiplied with the values, and the sum comes as one
/// more column of the values, so that fewer passes go over `[positions, keys]`, forward and backward.
fn attend_causally(
    q: Tensor<5>,
    k: Tensor<4>,
    v: Tensor<4>,
    start: usize,
    window: Option<usize>,
) -> Tensor<5> {
    let [batch, kv_heads, share, seq, dim] = q.dims();
    let [_, _, total, _] = k.dims();
    let device = q.device();
    let keys = k.swap_dims(2, 3);
    let ones = Tensor::ones([batch, kv_heads, total, 1], (&device, v.dtype()));
    let values = Tensor::cat(vec![v, ones], 3);
    let parts = (0..seq).step_by(POSITIONS).map(|first| {
        let last = (first + POSITIONS).min(seq);
        let rows = last - first;
        // From the first position that the first of these sees to the last one.
        let from = window.map_or(0, |window| (start + first + 1).saturating_sub(window));
        let keys_seen = from..start + last;
        let seen = keys_seen.len();
        let q = q.clone().slice_dim(3, first..last);
        let q = q.reshape([batch, kv_heads, share * rows, dim]);
        let scores = q.matmul(keys.clone().slice_dim(3, keys_seen.clone()));
        let scores = scores.reshape([batch, kv_heads, share, rows, seen]);
        let weights = causal_weights(scores, window).reshape([batch, kv_heads, share * rows, seen]);
        let out = weights.matmul(values.clone().slice_dim(2, keys_seen));
        let out = out.clone().slice_dim(3, 0..dim) / out.slice_dim(3, dim..dim + 1);
        out.reshape([batch, kv_heads, share, rows, dim])
    });
    let parts: Vec<_> = parts.collect();
    Tensor::cat(parts, 3)
}
