use super::{KvCache, Rope};
use crate::LlamaConfig;
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};
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
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Attention {
    /// A layer with weights at random.
    pub fn new(config: &LlamaConfig, device: &Device) -> Self {
        let linear = |d_input, d_output| {
            QuantLinearConfig::new(d_input, d_output)
                .with_bias(config.attention_bias)
                .init(device)
        };
        let (heads, kv_heads) = (config.num_attention_heads, config.kv_heads());
        let head_dim = config.head_dim();
        Self {
            q_proj: linear(config.hidden_size, heads * head_dim),
            k_proj: linear(config.hidden_size, kv_heads * head_dim),
            v_proj: linear(config.hidden_size, kv_heads * head_dim),
            o_proj: linear(heads * head_dim, config.hidden_size),
            heads,
            kv_heads,
            head_dim,
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
        let q = rope.apply(heads(self.q_proj.forward(x.clone()), self.heads), start);
        let k = rope.apply(heads(self.k_proj.forward(x.clone()), self.kv_heads), start);
        let v = heads(self.v_proj.forward(x), self.kv_heads);
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v),
            None => (k, v),
        };
        let total = start + seq;

        // Query heads that share a key head are stacked along the positions: no key is copied.
        let share = self.heads / self.kv_heads;
        let q = q.reshape([batch, self.kv_heads, share * seq, self.head_dim]);
        let scores = q.matmul(k.swap_dims(2, 3)) / (self.head_dim as f64).sqrt();
        let scores = scores.reshape([batch, self.heads, seq, total]);
        let scores = match seq {
            1 => scores,
            _ => {
                let mask = causal_mask(seq, total, scores.dtype(), &scores.device());
                scores + mask
            }
        };
        let weights = softmax(scores, 3);
        let weights = weights.reshape([batch, self.kv_heads, share * seq, total]);
        let out = weights
            .matmul(v)
            .reshape([batch, self.heads, seq, self.head_dim]);
        let out = out
            .swap_dims(1, 2)
            .reshape([batch, seq, self.heads * self.head_dim]);
        self.o_proj.forward(out)
    }
}

/// Minus infinity where a position would look ahead: `[1, 1, seq, total]`.
fn causal_mask(seq: usize, total: usize, dtype: DType, device: &Device) -> Tensor<4> {
    let start = total - seq;
    let values: Vec<f32> = (0..seq * total)
        .map(|i| match i % total > start + i / total {
            true => f32::NEG_INFINITY,
            false => 0.0,
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [1, 1, seq, total]), (device, dtype))
}
