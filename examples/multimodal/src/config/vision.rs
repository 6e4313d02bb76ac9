use super::ConfigError;
use serde::{Deserialize, Serialize};

/// The shape of a CLIP vision tower: `vision_config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of heads.
    pub num_attention_heads: usize,
    /// Width and height of an image, in pixels.
    pub image_size: usize,
    /// Width and height of a patch, in pixels.
    pub patch_size: usize,
    /// Colours of a pixel.
    #[serde(default = "channels")]
    pub num_channels: usize,
    /// Activation of the feed-forward layers.
    #[serde(default = "quick_gelu")]
    pub hidden_act: String,
    /// Added to the variance in the norms.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
}

fn channels() -> usize {
    3
}
fn quick_gelu() -> String {
    "quick_gelu".into()
}
fn epsilon() -> f64 {
    1e-5
}

impl VisionConfig {
    /// The patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Fails for a field that no tower can be built from.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value, limit) in [
            ("vision_config.hidden_size", self.hidden_size, 1 << 16),
            (
                "vision_config.intermediate_size",
                self.intermediate_size,
                1 << 18,
            ),
            (
                "vision_config.num_hidden_layers",
                self.num_hidden_layers,
                1 << 10,
            ),
            ("vision_config.image_size", self.image_size, 1 << 13),
            ("vision_config.patch_size", self.patch_size, self.image_size),
        ] {
            ConfigError::check_size(field, value, limit)?;
        }
        if self.num_channels != 3 {
            let field = "vision_config.num_channels";
            return Err(ConfigError::new(field, self.num_channels, 3));
        }
        let heads = self.num_attention_heads;
        let field = "vision_config.num_attention_heads";
        ConfigError::check_heads(field, heads, self.hidden_size)
    }
}
