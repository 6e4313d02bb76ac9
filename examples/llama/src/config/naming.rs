use super::LlamaConfig;
use burn_eqat::files::Naming;

/// The one shared tensor of a model whose output layer is its embedding, under its two names.
pub(crate) const TIED: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// Buffers that some versions of transformers store, and that are computed here.
const COMPUTED: [&str; 5] = [
    "rotary_emb.inv_freq",
    "rotary_emb.cos_cached",
    "rotary_emb.sin_cached",
    "masked_bias",
    "attn.bias",
];

impl LlamaConfig {
    /// The names of the tensors in published checkpoints.
    pub(crate) fn naming(&self) -> Naming {
        let [embedding, head] = TIED;
        let naming = Naming::new().with_optional_prefix("model.", &["lm_head."]);
        let naming = COMPUTED.into_iter().fold(naming, Naming::with_ignored);
        if self.tie_word_embeddings {
            naming.with_alias(embedding, head)
        } else {
            naming
        }
    }
}
