use super::ConfigError;
use serde::{Deserialize, Serialize};

/// The shape of an audio tower: `audio_config`, with the names of Qwen2-Audio's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioConfig {
    /// Bands of a frame.
    pub num_mel_bins: usize,
    /// Width of the hidden state.
    pub d_model: usize,
    /// Number of blocks.
    pub encoder_layers: usize,
    /// Number of heads.
    pub encoder_attention_heads: usize,
    /// Width inside the feed-forward layers.
    pub encoder_ffn_dim: usize,
    /// Positions behind the convolutions, half of the frames.
    pub max_source_positions: usize,
    /// Activation of the feed-forward layers.
    #[serde(default = "gelu")]
    pub activation_function: String,
}

fn gelu() -> String {
    "gelu".into()
}

impl AudioConfig {
    /// The frames of a sound.
    pub fn frames(&self) -> usize {
        2 * self.max_source_positions
    }

    /// The features that a sound becomes.
    pub fn features(&self) -> usize {
        self.max_source_positions / 2
    }

    /// Fails for a field that no tower can be built from.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value, limit) in [
            ("audio_config.num_mel_bins", self.num_mel_bins, 1 << 10),
            ("audio_config.d_model", self.d_model, 1 << 16),
            ("audio_config.encoder_layers", self.encoder_layers, 1 << 10),
            (
                "audio_config.encoder_ffn_dim",
                self.encoder_ffn_dim,
                1 << 18,
            ),
            (
                "audio_config.max_source_positions",
                self.max_source_positions,
                1 << 16,
            ),
        ] {
            ConfigError::check_size(field, value, limit)?;
        }
        if !self.max_source_positions.is_multiple_of(2) {
            let field = "audio_config.max_source_positions";
            return Err(ConfigError::new(
                field,
                self.max_source_positions,
                "an even number",
            ));
        }
        // The sinusoids are pairs.
        if !self.d_model.is_multiple_of(2) || self.d_model < 4 {
            let field = "audio_config.d_model";
            return Err(ConfigError::new(
                field,
                self.d_model,
                "an even number of 4 or more",
            ));
        }
        let field = "audio_config.encoder_attention_heads";
        ConfigError::check_heads(field, self.encoder_attention_heads, self.d_model)
    }
}
