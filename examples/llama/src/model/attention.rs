use super::Rope;
use super::block::normed;
use super::merged::merged;
use crate::LlamaConfig;
use burn::module::Module;
use burn::nn::{RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use burn_eqat::kernels::transformer::causal_attention;
use burn_eqat::lm::KvCache;
use burn_eqat::{MergedLinears, QuantLinear, QuantLinearConfig, linears_of_norm};

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
    /// The projections of queries, keys and values, in place of the three.
    #[module(skip)]
    qkv: Option<MergedLinears<3>>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Positions attended to, including the newest; `None` for all.
    window: Option<usize>,
}

impl Attention {
    /// The layer of block `block`, with random weights.
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
            qkv: None,
            heads,
            kv_heads,
            head_dim,
            window: config.window(block),
        }
    }

    /// Runs the projections as one from here on, if they are packed alike; zeros are in their place.
    pub(super) fn merge(&mut self) {
        let layers = [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj];
        self.qkv = merged(layers);
    }

    /// Queries, keys and values of the normed input, `[batch, seq, heads * head_dim]`.
    fn project(&self, norm: &RmsNorm, x: Tensor<3>) -> [Tensor<3>; 3] {
        match &self.qkv {
            Some(layers) => layers.forward(normed(norm, x)),
            None => linears_of_norm(norm, [&self.q_proj, &self.k_proj, &self.v_proj], x),
        }
    }

    /// The values that a cache keeps of each position: keys and values of all heads.
    pub(super) fn cached_values(&self) -> usize {
        2 * self.kv_heads * self.head_dim
    }

    /// Attends over the normed input and the positions in the cache.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, seq, hidden]`
    pub fn forward(
        &self,
        norm: &RmsNorm,
        x: Tensor<3>,
        rope: &Rope,
        cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let start = cache.as_ref().map_or(0, |cache| cache.len());
        let heads = |t: Tensor<3>, heads| -> Tensor<4> {
            t.reshape([batch, seq, heads, self.head_dim])
                .swap_dims(1, 2)
        };
        let normed = |norm: &Option<RmsNorm>, x: Tensor<4>| match norm {
            Some(norm) => normed(norm, x),
            None => x,
        };
        let [q, k, v] = self.project(norm, x);
        let (q, k) = (heads(q, self.heads), heads(k, self.kv_heads));
        let q = rope.apply(normed(&self.q_norm, q), start);
        let k = rope.apply(normed(&self.k_norm, k), start);
        let v = heads(v, self.kv_heads);
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v),
            None => (k, v),
        };
        let out = causal_attention(q, k, v, self.window).unwrap_or_else(|error| error.raise());
        let out = out
            .swap_dims(1, 2)
            .reshape([batch, seq, self.heads * self.head_dim]);
        self.o_proj.forward(out)
    }
}
