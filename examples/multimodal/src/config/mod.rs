//! The shape of a multimodal model, from `config.json` of a Hugging Face directory.

mod audio;
mod error;
mod vision;

pub use audio::AudioConfig;
pub use error::ConfigError;
pub use vision::VisionConfig;

use crate::encoder::Activation;
use llama::LlamaConfig;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The fields of `config.json`: those of LLaVA, and of the same model with an audio tower in place of the vision tower.
/// There is one of the two towers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultimodalConfig {
    /// The kind of model; of no consequence here.
    #[serde(default)]
    pub model_type: String,
    /// The decoder. What LLaVA's file leaves out is what a Llama 2 of 7 billion parameters has.
    #[serde(deserialize_with = "text_config")]
    pub text_config: LlamaConfig,
    /// The tower that sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_config: Option<VisionConfig>,
    /// The tower that hears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_config: Option<AudioConfig>,
    /// The token in whose place the features of an image come.
    #[serde(
        default,
        alias = "image_token_id",
        skip_serializing_if = "Option::is_none"
    )]
    pub image_token_index: Option<u32>,
    /// The token in whose place the features of a sound come.
    #[serde(
        default,
        alias = "audio_token_id",
        skip_serializing_if = "Option::is_none"
    )]
    pub audio_token_index: Option<u32>,
    /// The vision block whose output is used: 1 is the first, -1 the last, 0 what goes into the first.
    #[serde(default = "feature_layer")]
    pub vision_feature_layer: i64,
    /// Which positions of it: `default` leaves out the class token, `full` does not.
    #[serde(default = "default_features")]
    pub vision_feature_select_strategy: String,
    /// Activation between the two layers of the projector.
    #[serde(default = "gelu")]
    pub projector_hidden_act: String,
    /// Whether the layers of the projector have biases.
    #[serde(default = "yes")]
    pub multimodal_projector_bias: bool,
}

/// The one tower of a model.
#[derive(Clone, Copy, Debug)]
pub enum Tower<'a> {
    /// It sees.
    Vision(&'a VisionConfig),
    /// It hears.
    Audio(&'a AudioConfig),
}

fn feature_layer() -> i64 {
    -2
}
fn default_features() -> String {
    "default".into()
}
fn gelu() -> String {
    "gelu".into()
}
fn yes() -> bool {
    true
}

/// A decoder, in which what is not said is as in a Llama 2 of 7 billion parameters.
fn text_config<'de, D: Deserializer<'de>>(value: D) -> Result<LlamaConfig, D::Error> {
    let mut fields = serde_json::Map::deserialize(value)?;
    for (name, default) in [
        ("vocab_size", 32000),
        ("hidden_size", 4096),
        ("intermediate_size", 11008),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("bos_token_id", 1),
        ("eos_token_id", 2),
    ] {
        fields.entry(name).or_insert(default.into());
    }
    serde_json::from_value(Value::Object(fields)).map_err(serde::de::Error::custom)
}

impl MultimodalConfig {
    /// The tower.
    ///
    /// # Errors
    ///
    /// When there is none, or there are two.
    pub fn tower(&self) -> Result<Tower<'_>, ConfigError> {
        let expected = "one of vision_config and audio_config";
        match (&self.vision_config, &self.audio_config) {
            (Some(vision), None) => Ok(Tower::Vision(vision)),
            (None, Some(audio)) => Ok(Tower::Audio(audio)),
            (None, None) => Err(ConfigError::new("vision_config", "missing", expected)),
            (Some(_), Some(_)) => Err(ConfigError::new("audio_config", "there too", expected)),
        }
    }

    /// The token in whose place features come.
    ///
    /// # Errors
    ///
    /// When it is missing, or outside of the vocabulary.
    pub fn media_token(&self) -> Result<u32, ConfigError> {
        let (field, token) = match self.tower()? {
            Tower::Vision(_) => ("image_token_index", self.image_token_index),
            Tower::Audio(_) => ("audio_token_index", self.audio_token_index),
        };
        let vocab_size = self.text_config.vocab_size;
        let expected = || format!("less than text_config.vocab_size {vocab_size}");
        match token {
            Some(token) if (token as usize) < vocab_size => Ok(token),
            Some(token) => Err(ConfigError::new(field, token, expected())),
            None => Err(ConfigError::new(field, "missing", expected())),
        }
    }

    /// The vision blocks that features go through.
    ///
    /// # Errors
    ///
    /// When there are fewer.
    pub fn feature_blocks(&self, vision: &VisionConfig) -> Result<usize, ConfigError> {
        let (layer, blocks) = (self.vision_feature_layer, vision.num_hidden_layers as i64);
        let through = if layer < 0 { blocks + 1 + layer } else { layer };
        if (0..=blocks).contains(&through) {
            return Ok(through as usize);
        }
        let expected = format!("{} to {blocks}", -blocks - 1);
        Err(ConfigError::new("vision_feature_layer", layer, expected))
    }

    /// Whether the class token is among the features.
    ///
    /// # Errors
    ///
    /// When the strategy is unknown.
    pub fn keeps_class_token(&self) -> Result<bool, ConfigError> {
        match self.vision_feature_select_strategy.as_str() {
            "default" => Ok(false),
            "full" => Ok(true),
            other => {
                let field = "vision_feature_select_strategy";
                Err(ConfigError::new(field, other, "default or full"))
            }
        }
    }

    /// The features of an image or a sound: the positions that it takes among the tokens.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn features(&self) -> Result<usize, ConfigError> {
        Ok(match self.tower()? {
            Tower::Vision(vision) => vision.patches() + usize::from(self.keeps_class_token()?),
            Tower::Audio(audio) => audio.features(),
        })
    }

    /// Checks that a model can be built from these numbers.
    ///
    /// # Errors
    ///
    /// When a field is wrong. The error has the field, its value and the expected value.
    pub fn check(&self) -> Result<(), ConfigError> {
        let text = self.text_config.check();
        text.map_err(|error| ConfigError::new("text_config", error, "a Llama"))?;
        match self.tower()? {
            Tower::Vision(vision) => {
                vision.check()?;
                Activation::named("vision_config.hidden_act", &vision.hidden_act)?;
                self.feature_blocks(vision)?;
                self.keeps_class_token()?;
            }
            Tower::Audio(audio) => {
                audio.check()?;
                let name = &audio.activation_function;
                Activation::named("audio_config.activation_function", name)?;
            }
        }
        Activation::named("projector_hidden_act", &self.projector_hidden_act)?;
        self.media_token()?;
        Ok(())
    }
}
