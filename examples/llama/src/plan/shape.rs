//! The sizes of a model's parts, from its configuration.

use crate::LlamaConfig;
use burn_eqat::{QuantizeError, Scheme, Schemes};

/// The product of factors; no configuration makes it overflow.
pub(super) fn product<const N: usize>(factors: [usize; N]) -> u64 {
    let factors = factors.into_iter().map(|factor| factor as u64);
    factors.fold(1, u64::saturating_mul)
}

/// A sum that no configuration makes overflow.
pub(super) fn sum(terms: impl IntoIterator<Item = u64>) -> u64 {
    terms.into_iter().fold(0, u64::saturating_add)
}

/// A quantized weight, `[d_input, d_output]`.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    path: String,
    d_input: usize,
    d_output: usize,
    scheme: Scheme,
    groups: usize,
    bias: bool,
}

impl Matrix {
    /// What its weight is called in the model.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn weights(&self) -> u64 {
        product([self.d_input, self.d_output])
    }

    /// Step sizes; there are as many zero points.
    pub fn steps(&self) -> u64 {
        product([self.groups, self.d_output])
    }

    /// Bytes of the codes and of the zero points, packed in words of 32 bits.
    pub fn packed_integers(&self) -> u64 {
        let bits = self.scheme.bits;
        let codes = product([bits.words(self.d_input), self.d_output, 4]);
        codes.saturating_add(product([self.groups, bits.words(self.d_output), 4]))
    }

    fn biases(&self) -> u64 {
        if self.bias { self.d_output as u64 } else { 0 }
    }
}

/// A decoder block.
#[derive(Clone, Debug)]
pub(super) struct BlockShape {
    pub matrices: Vec<Matrix>,
    /// Parameters of its norms.
    pub norms: u64,
    /// Factor on the bytes of its codes: above 1 where a budget adds bits.
    more: f64,
}

impl BlockShape {
    pub fn weights(&self) -> u64 {
        sum(self.matrices.iter().map(Matrix::weights))
    }

    pub fn steps(&self) -> u64 {
        sum(self.matrices.iter().map(Matrix::steps))
    }

    pub fn packed_integers(&self) -> u64 {
        let bytes = sum(self.matrices.iter().map(Matrix::packed_integers));
        match self.more {
            1.0 => bytes,
            more => (bytes as f64 * more) as u64,
        }
    }

    /// Parameters that are not packed: norms and biases.
    pub fn plain(&self) -> u64 {
        sum(self.matrices.iter().map(Matrix::biases)).saturating_add(self.norms)
    }

    /// Bytes of the packed block as the phases have it: step sizes in 32 bits.
    pub fn packed(&self) -> u64 {
        sum([self.packed_integers(), 4 * self.steps(), 4 * self.plain()])
    }

    /// Weights of the largest matrix.
    pub fn largest(&self) -> u64 {
        let weights = self.matrices.iter().map(Matrix::weights);
        weights.max().unwrap_or_default()
    }
}

/// A model.
#[derive(Clone, Debug)]
pub(super) struct ModelShape {
    /// Width of the hidden state.
    pub hidden: usize,
    /// Width of all queries together, and of all keys.
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    /// Width inside the feed-forward layers.
    pub inner: usize,
    pub vocab: usize,
    /// Parameters of the embedding and of the output layer, one and the same where they are tied.
    pub embedding: u64,
    pub blocks: Vec<BlockShape>,
}

impl ModelShape {
    /// # Errors
    ///
    /// When the groups of a scheme do not divide a weight.
    pub fn new(config: &LlamaConfig, schemes: &Schemes) -> Result<Self, QuantizeError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let head = config.head_dim();
        let (queries, keys) = (
            config.num_attention_heads.saturating_mul(head),
            config.kv_heads().saturating_mul(head),
        );
        let (qkv, out) = config.attention_biases();
        let mlp = config.mlp_bias;
        let parts = [
            ("self_attn.q_proj", hidden, queries, qkv),
            ("self_attn.k_proj", hidden, keys, qkv),
            ("self_attn.v_proj", hidden, keys, qkv),
            ("self_attn.o_proj", queries, hidden, out),
            ("mlp.gate_proj", hidden, inner, mlp),
            ("mlp.up_proj", hidden, inner, mlp),
            ("mlp.down_proj", inner, hidden, mlp),
        ];
        let head_norms = if config.qk_norm() { 2 * head } else { 0 };
        let block = |index: usize| {
            let matrices = parts.iter().map(|(name, d_input, d_output, bias)| {
                let path = format!("model.layers.{index}.{name}.weight");
                let scheme = schemes.of(&path);
                let groups = scheme.groups(*d_input).map_err(|error| {
                    let path = path.clone();
                    QuantizeError::Scheme { path, error }
                })?;
                Ok(Matrix {
                    path,
                    d_input: *d_input,
                    d_output: *d_output,
                    groups,
                    scheme,
                    bias: *bias,
                })
            });
            Ok(BlockShape {
                matrices: matrices.collect::<Result<_, QuantizeError>>()?,
                norms: (2 * hidden + head_norms) as u64,
                more: 1.0,
            })
        };
        let copies = if config.tie_word_embeddings { 1 } else { 2 };
        Ok(Self {
            hidden,
            queries,
            keys,
            heads: config.num_attention_heads,
            inner,
            vocab: config.vocab_size,
            embedding: product([copies, config.vocab_size, hidden]),
            blocks: (0..config.num_hidden_layers)
                .map(block)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The same with so many bits per weight in all, with step sizes in 16 bits. Which weights get them is not known before the run: here all
    /// blocks get as many.
    pub fn with_budget(mut self, bits_per_weight: f64) -> Self {
        /// Of 8-bit weights in small groups.
        const MOST_BITS: f64 = 9.0;
        let bits_per_weight = bits_per_weight.min(MOST_BITS);
        let of = |measure: fn(&BlockShape) -> u64| sum(self.blocks.iter().map(measure)) as f64;
        let integers = of(BlockShape::packed_integers);
        let budget = bits_per_weight / 8.0 * of(BlockShape::weights) - 2.0 * of(BlockShape::steps);
        if integers > 0.0 && budget > integers {
            for block in &mut self.blocks {
                block.more = budget / integers;
            }
        }
        self
    }

    /// All parameters, packed or not.
    pub fn params(&self) -> u64 {
        let blocks = sum(self
            .blocks
            .iter()
            .map(|block| block.weights().saturating_add(block.plain())));
        sum([blocks, self.embedding, self.hidden as u64])
    }

    /// Bytes of the model in its files, in full precision.
    pub fn dense_file(&self, float: usize) -> u64 {
        self.params().saturating_mul(float as u64)
    }

    /// Bytes of the packed model in its files: step sizes in 16 bits, norms and biases in 32, and the rest in the type of the files.
    pub fn packed_file(&self, float: usize) -> u64 {
        let blocks = self.blocks.iter().map(|block| {
            sum([
                block.packed_integers(),
                2 * block.steps(),
                4 * block.plain(),
            ])
        });
        let rest = self.embedding.saturating_mul(float as u64);
        sum([sum(blocks), rest, 4 * self.hidden as u64])
    }

    pub fn packed_blocks(&self) -> u64 {
        sum(self.blocks.iter().map(BlockShape::packed))
    }

    pub fn steps(&self) -> u64 {
        sum(self.blocks.iter().map(BlockShape::steps))
    }

    /// The block that takes the most, by a measure.
    pub fn largest(&self, measure: impl Fn(&BlockShape) -> u64) -> u64 {
        self.blocks.iter().map(measure).max().unwrap_or_default()
    }
}
