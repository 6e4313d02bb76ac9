//! How a model's images or sounds are prepared, from the files of its directory.

use crate::audio::SoundProcessor;
use crate::config::{MultimodalConfig, Tower};
use crate::error::Error;
use crate::front::Input;
use crate::vision::ImageProcessor;
use burn_eqat::files::{FileError, read_json};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What prepares the inputs of a model's tower.
#[derive(Clone, Debug, PartialEq)]
pub enum Processor {
    /// Images.
    Image(ImageProcessor),
    /// Sounds.
    Sound(SoundProcessor),
}

impl Processor {
    /// Reads the processor of a directory, from `preprocessor_config.json`, or `processor_config.json` as newer ones have it.
    ///
    /// # Errors
    ///
    /// When there is none, it cannot be read, or does not fit the model.
    pub fn open(dir: &Path, config: &MultimodalConfig) -> Result<Self, Error> {
        let tower = config.tower().map_err(Error::config(dir))?;
        match tower {
            Tower::Vision(vision) => {
                let (path, image): (_, ImageProcessor) = read(dir, "image_processor")?;
                image
                    .check(vision.image_size)
                    .map_err(Error::config(&path))?;
                Ok(Processor::Image(image))
            }
            Tower::Audio(audio) => {
                let (path, sound): (_, SoundProcessor) = read(dir, "feature_extractor")?;
                sound.check(audio).map_err(Error::config(&path))?;
                Ok(Processor::Sound(sound))
            }
        }
    }

    /// What a part of a message that is prepared so is called.
    pub fn kind(&self) -> &'static str {
        match self {
            Processor::Image(_) => "image",
            Processor::Sound(_) => "audio",
        }
    }

    /// Reads an image or a sound and prepares it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not what the model takes.
    pub fn read(&self, path: &Path) -> Result<Input, Error> {
        match self {
            Processor::Image(image) => image.read(path),
            Processor::Sound(sound) => sound.read(path),
        }
    }
}

/// The processor's fields, and the file that they are from. In the newer file they are inside of `part`.
fn read<T: DeserializeOwned>(dir: &Path, part: &str) -> Result<(PathBuf, T), FileError> {
    let (older, newer) = (
        dir.join("preprocessor_config.json"),
        dir.join("processor_config.json"),
    );
    if !older.exists() && newer.exists() {
        let mut fields: Value = read_json(&newer)?;
        let fields = fields.get_mut(part).map(Value::take).unwrap_or_default();
        let processor = serde_json::from_value(fields)
            .map_err(|error| FileError::invalid(&newer, format!("{part}: {error}")))?;
        return Ok((newer, processor));
    }
    let processor = read_json(&older)?;
    Ok((older, processor))
}
