//! The shape of a Llama, as `config.json` of a Hugging Face directory gives it.

use serde::{Deserialize, Serialize};

/// The fields of `config.json` that a Llama's shape and tokens depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Family; only `llama` is read.
    #[serde(default = "llama")]
    pub model_type: String,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; the number of query heads where it is absent.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `hidden_size / num_attention_heads` where it is absent.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Activation of the feed-forward layers; only `silu` is read.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// Longest sequence that the model was made for.
    #[serde(default = "positions")]
    pub max_position_embeddings: usize,
    /// Added to the mean square in the norms.
    #[serde(default = "epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// Rescaling of the rotary frequencies, which is not supported.
    #[serde(default)]
    pub rope_scaling: Option<serde_json::Value>,
    /// Base and rescaling of the rotary frequencies together, as newer files have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeParameters>,
    /// Whether the output layer is the embedding, transposed.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether the attention projections have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the feed-forward layers have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Token that begins a text.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// Token (or tokens) that end a text.
    #[serde(default)]
    pub eos_token_id: Option<TokenIds>,
}

/// Rotary settings of newer files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// Base of the frequencies.
    #[serde(default)]
    pub rope_theta: Option<f64>,
    /// Kind of rescaling; only `default` (none) is read.
    #[serde(default)]
    pub rope_type: Option<String>,
}

/// One token id or several, as `config.json` may write either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    /// A number.
    One(u32),
    /// A list.
    Many(Vec<u32>),
}

fn llama() -> String {
    "llama".into()
}
fn silu() -> String {
    "silu".into()
}
fn positions() -> usize {
    2048
}
fn epsilon() -> f64 {
    1e-6
}
fn theta() -> f64 {
    10000.0
}

/// A `config.json` that no Llama can be built from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("config.json: {field} is {value}, expected {expected}")]
pub struct ConfigError {
    field: &'static str,
    value: String,
    expected: String,
}

impl LlamaConfig {
    /// Number of key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Base of the rotary frequencies.
    pub fn rope_theta(&self) -> f64 {
        let newer = self.rope_parameters.as_ref().and_then(|r| r.rope_theta);
        newer.unwrap_or(self.rope_theta)
    }

    /// Whether a token ends a text.
    pub fn is_end(&self, token: u32) -> bool {
        match &self.eos_token_id {
            Some(TokenIds::One(id)) => token == *id,
            Some(TokenIds::Many(ids)) => ids.contains(&token),
            None => false,
        }
    }

    /// The token that ends a text; the first of them where there are several.
    pub fn end_token(&self) -> Option<u32> {
        match self.eos_token_id.as_ref()? {
            TokenIds::One(id) => Some(*id),
            TokenIds::Many(ids) => ids.first().copied(),
        }
    }

    /// Checks that a Llama can be built from these numbers.
    ///
    /// # Errors
    ///
    /// Names the field that is wrong, its value and what was expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, value: &dyn ToString, expected: &str| ConfigError {
            field,
            value: value.to_string(),
            expected: expected.to_string(),
        };
        if self.model_type != "llama" {
            return Err(wrong("model_type", &self.model_type, "llama"));
        }
        if self.hidden_act != "silu" {
            return Err(wrong("hidden_act", &self.hidden_act, "silu"));
        }
        if let Some(scaling) = self.rope_scaling.as_ref().filter(|s| !s.is_null()) {
            return Err(wrong("rope_scaling", scaling, "null"));
        }
        let newer = self
            .rope_parameters
            .as_ref()
            .and_then(|r| r.rope_type.as_ref());
        if let Some(kind) = newer.filter(|kind| *kind != "default") {
            return Err(wrong("rope_parameters.rope_type", kind, "default"));
        }
        // Generous bounds, so that a hostile file cannot ask for absurd tables.
        for (field, value, limit) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 24),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("num_key_value_heads", self.kv_heads(), 1 << 12),
            ("head_dim", self.head_dim(), 1 << 10),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 17,
            ),
        ] {
            if value == 0 || value > limit {
                return Err(wrong(field, &value, &format!("1 to {limit}")));
            }
        }
        if self.max_position_embeddings < 2 {
            let value = &self.max_position_embeddings;
            return Err(wrong("max_position_embeddings", value, "2 or more"));
        }
        let end = match &self.eos_token_id {
            Some(TokenIds::One(id)) => vec![*id],
            Some(TokenIds::Many(ids)) => ids.clone(),
            None => Vec::new(),
        };
        let special = self.bos_token_id.iter().map(|id| ("bos_token_id", *id));
        for (field, id) in special.chain(end.into_iter().map(|id| ("eos_token_id", id))) {
            if id as usize >= self.vocab_size {
                let expected = format!("less than vocab_size {}", self.vocab_size);
                return Err(wrong(field, &id, &expected));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.kv_heads()) {
            let expected = format!(
                "a divisor of num_attention_heads {}",
                self.num_attention_heads
            );
            return Err(wrong("num_key_value_heads", &self.kv_heads(), &expected));
        }
        if !self.head_dim().is_multiple_of(2) {
            return Err(wrong("head_dim", &self.head_dim(), "an even number"));
        }
        for (field, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta()),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(wrong(field, &value, "a positive number"));
            }
        }
        Ok(())
    }
}
