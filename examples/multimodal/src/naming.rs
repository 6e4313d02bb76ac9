//! The names of the tensors in published checkpoints.

use burn_eqat::files::Naming;

/// The one shared tensor of a decoder whose output layer is its embedding, under its second name.
pub(crate) const DECODER_HEAD: &str = "language_model.lm_head.weight";

/// Parts of the model, and where files of newer versions of transformers have them. The model's fields have the names of the
/// files that LLaVA 1.5 was published with.
const MOVED: [(&str, &str); 8] = [
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    (
        "vision_tower.vision_model.embeddings.",
        "vision_tower.embeddings.",
    ),
    (
        "vision_tower.vision_model.pre_layrnorm.",
        "vision_tower.pre_layrnorm.",
    ),
    (
        "vision_tower.vision_model.encoder.",
        "vision_tower.encoder.",
    ),
    (
        "vision_tower.vision_model.post_layernorm.",
        "vision_tower.post_layernorm.",
    ),
];

/// Buffers that some versions store, and that are computed here.
const COMPUTED: [&str; 2] = ["rotary_emb.inv_freq", "embeddings.position_ids"];

/// The names of a model's tensors, whose output layer may be its embedding.
pub(crate) fn naming(tied: bool) -> Naming {
    let naming = MOVED.iter().fold(Naming::new(), |naming, (name, other)| {
        naming.with_moved_prefix(name, other)
    });
    let naming = COMPUTED.into_iter().fold(naming, Naming::with_ignored);
    if tied {
        naming.with_alias("language_model.model.embed_tokens.weight", DECODER_HEAD)
    } else {
        naming
    }
}
