//! The differences between model families, as data.

/// A model family: its `model_type` in `config.json`, and its defaults for missing fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name in `config.json`.
    pub model_type: &'static str,
    /// Biases of the attention projections.
    pub(super) bias: Bias,
    /// Whether queries and keys are normed, for each head.
    pub(super) qk_norm: bool,
    /// Blocks that attend to a window.
    pub(super) windowed: Windowed,
    /// Default width of a head, if it is not the heads' share of the hidden width.
    pub(super) head_dim: Option<usize>,
    /// Whether texts begin with the BOS token, if `tokenizer_config.json` does not say.
    pub(super) begins: bool,
    /// Default window, if the field is missing and not null.
    pub(super) window: Option<usize>,
}

/// Biases of the attention projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    /// None.
    Never,
    /// All four if `attention_bias` is true.
    AsConfigured,
    /// Queries, keys and values.
    QueriesKeysValues,
}

/// Blocks that attend to a window of the positions before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windowed {
    /// None.
    Never,
    /// All of them.
    Always,
    /// Those from `max_window_layers` on, if `use_sliding_window` is true.
    Upper,
}

const LLAMA: Family = Family {
    model_type: "llama",
    bias: Bias::AsConfigured,
    qk_norm: false,
    windowed: Windowed::Never,
    head_dim: None,
    begins: true,
    window: None,
};

/// The supported families. H2O-Danube3, SmolLM2 and TinyLlama have the type `llama`.
static FAMILIES: [Family; 4] = [
    LLAMA,
    Family {
        model_type: "mistral",
        bias: Bias::Never,
        windowed: Windowed::Always,
        window: Some(4096),
        ..LLAMA
    },
    Family {
        model_type: "qwen2",
        bias: Bias::QueriesKeysValues,
        windowed: Windowed::Upper,
        begins: false,
        window: Some(4096),
        ..LLAMA
    },
    Family {
        model_type: "qwen3",
        qk_norm: true,
        windowed: Windowed::Upper,
        begins: false,
        head_dim: Some(128),
        window: Some(4096),
        ..LLAMA
    },
];

impl Family {
    /// The family of a `model_type`.
    pub fn of(model_type: &str) -> Option<&'static Family> {
        FAMILIES
            .iter()
            .find(|family| family.model_type == model_type)
    }

    /// The names of all families, for messages.
    pub(super) fn names() -> String {
        FAMILIES
            .each_ref()
            .map(|family| family.model_type)
            .join(", ")
    }
}
