//! The shape of a Llama, from `config.json` of a Hugging Face directory.

mod family;
mod naming;
mod rope;

pub use family::Family;
pub use rope::RopeParameters;

use burn_eqat::lm::SpecialTokens;
use family::{Bias, Windowed};
pub(crate) use naming::TIED;
pub(crate) use rope::Rescaling;
use serde::{Deserialize, Deserializer, Serialize};

/// The fields of `config.json` for a Llama's shape and tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Family: see [`Family`].
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
    /// Number of key and value heads; if missing, the number of query heads.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; if missing, `hidden_size / num_attention_heads`.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Activation of the feed-forward layers; only `silu` is supported.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// Longest sequence of the model.
    #[serde(default = "positions")]
    pub max_position_embeddings: usize,
    /// Added to the mean square in the norms.
    #[serde(default = "epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// Rescaling of the rotary frequencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeParameters>,
    /// Base and rescaling of the rotary frequencies together, in newer files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeParameters>,
    /// Whether the output layer is the embedding, transposed. If missing it is false, as in transformers for all of
    /// these families.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether the attention projections have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the feed-forward layers have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Positions that a windowed block attends to, including its own; null for no window.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub sliding_window: Option<Option<usize>>,
    /// Whether blocks of a Qwen have windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_sliding_window: Option<bool>,
    /// The first block of a Qwen with a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_window_layers: Option<usize>,
    /// Kind of each block's attention, in newer files: `full_attention` or `sliding_attention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<String>>,
    /// Token that begins a text, if there is one.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// Token (or tokens) that end a text.
    #[serde(default)]
    pub eos_token_id: Option<TokenIds>,
}

/// One token id or several; `config.json` may have either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    /// A number.
    One(u32),
    /// A list.
    Many(Vec<u32>),
}

/// A field that is present, null or not.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl TokenIds {
    /// All of them.
    pub fn ids(&self) -> &[u32] {
        match self {
            TokenIds::One(id) => std::slice::from_ref(id),
            TokenIds::Many(ids) => ids,
        }
    }
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

/// The most positions with tables.
const MAX_POSITIONS: usize = 1 << 17;

/// A `config.json` does not describe a supported Llama.
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
        let family = Family::of(&self.model_type).and_then(|family| family.head_dim);
        let share = self.hidden_size / self.num_attention_heads.max(1);
        self.head_dim.or(family).unwrap_or(share)
    }

    /// Longest supported sequence: the model's own limit, or a smaller one of this program.
    pub fn positions(&self) -> usize {
        self.max_position_embeddings.min(MAX_POSITIONS)
    }

    /// Whether the projections of queries, keys and values have biases, and whether the output projection
    /// has.
    pub(crate) fn attention_biases(&self) -> (bool, bool) {
        let family = Family::of(&self.model_type);
        match family.map_or(Bias::AsConfigured, |family| family.bias) {
            Bias::Never => (false, false),
            Bias::AsConfigured => (self.attention_bias, self.attention_bias),
            Bias::QueriesKeysValues => (true, false),
        }
    }

    /// Whether texts of the family begin with the BOS token.
    pub(crate) fn begins_texts(&self) -> bool {
        Family::of(&self.model_type).is_none_or(|family| family.begins)
    }

    /// Whether queries and keys are normed.
    pub(crate) fn qk_norm(&self) -> bool {
        Family::of(&self.model_type).is_some_and(|family| family.qk_norm)
    }

    /// Positions that a block attends to, including its own; `None` for all.
    pub(crate) fn window(&self, block: usize) -> Option<usize> {
        let family = Family::of(&self.model_type)?;
        let window = self.sliding_window.unwrap_or(family.window);
        let kind = self.layer_types.as_ref().and_then(|kinds| kinds.get(block));
        let windowed = match (kind, family.windowed) {
            (_, Windowed::Never) => false,
            (Some(kind), _) => kind == "sliding_attention",
            (None, Windowed::Always) => true,
            (None, Windowed::Upper) => {
                let from = self.max_window_layers.unwrap_or(28);
                self.use_sliding_window.unwrap_or(false) && block >= from
            }
        };
        window.filter(|_| windowed)
    }

    /// Rotary frequency of pair `pair` of a head, before rescaling. In f32, as in the implementations that trained
    /// the weights.
    pub(crate) fn frequency(&self, pair: usize) -> f32 {
        let power = (2 * pair) as f32 / (self.head_dim() / 2 * 2) as f32;
        1.0 / (self.rope_theta() as f32).powf(power)
    }

    /// The rescaling of the rotary frequencies; none if [`check`](Self::check) would fail.
    pub(crate) fn rescaling(&self) -> Rescaling {
        let rescaling = self.rope_settings().map(RopeParameters::rescaling);
        rescaling.and_then(Result::ok).unwrap_or(Rescaling::None)
    }

    /// Rotary settings, of newer files or older ones.
    fn rope_settings(&self) -> Option<&RopeParameters> {
        (self.rope_parameters.as_ref()).or(self.rope_scaling.as_ref())
    }

    /// Base of the rotary frequencies.
    pub fn rope_theta(&self) -> f64 {
        let newer = self.rope_parameters.as_ref().and_then(|r| r.rope_theta);
        newer.unwrap_or(self.rope_theta)
    }

    /// The tokens that end a text.
    pub fn eos_tokens(&self) -> &[u32] {
        self.eos_token_id.as_ref().map_or(&[], TokenIds::ids)
    }

    /// The token that ends a text; the first one if there are several.
    pub fn eos_token(&self) -> Option<u32> {
        self.eos_tokens().first().copied()
    }

    /// The tokens that begin and end a text.
    pub fn special_tokens(&self) -> SpecialTokens {
        SpecialTokens {
            bos: self.bos_token_id,
            eos: self.eos_token(),
        }
    }

    /// Checks that a Llama can be built from these numbers.
    ///
    /// # Errors
    ///
    /// When a field is wrong. The error has the field, its value and the expected value.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, value: &dyn ToString, expected: &str| ConfigError {
            field,
            value: value.to_string(),
            expected: expected.to_string(),
        };
        if Family::of(&self.model_type).is_none() {
            return Err(wrong("model_type", &self.model_type, &Family::names()));
        }
        if self.hidden_act != "silu" {
            return Err(wrong("hidden_act", &self.hidden_act, "silu"));
        }
        if let Some(Err((field, value, expected))) =
            self.rope_settings().map(RopeParameters::rescaling)
        {
            return Err(wrong(field, &value, expected));
        }
        let kinds = self.layer_types.iter().flatten();
        let known = ["full_attention", "sliding_attention"];
        let mut others = kinds.filter(|kind| !known.contains(&kind.as_str()));
        if let Some(kind) = others.next() {
            return Err(wrong("layer_types", kind, &known.join(" or ")));
        }
        if self.sliding_window == Some(Some(0)) {
            return Err(wrong("sliding_window", &0, "1 or more"));
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
                1 << 24,
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
        let special = self.bos_token_id.iter().map(|id| ("bos_token_id", *id));
        let end = self.eos_tokens().iter().map(|id| ("eos_token_id", *id));
        for (field, id) in special.chain(end) {
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
