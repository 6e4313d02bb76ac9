use super::mel::{filters, log_mel, powers};
use super::wav::read_wav;
use crate::config::{AudioConfig, ConfigError};
use crate::error::Error;
use crate::front::Input;
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Prepares sounds as Whisper's feature extractor does: silence up to a fixed length, then log-mel frames. Its fields are
/// those of `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoundProcessor {
    /// Bands of a frame.
    pub feature_size: usize,
    /// Samples from frame to frame.
    pub hop_length: usize,
    /// Samples of the window that a frame is made of.
    pub n_fft: usize,
    /// Samples of the longest sound.
    pub n_samples: usize,
    /// Samples a second.
    pub sampling_rate: usize,
}

impl SoundProcessor {
    /// Fails for numbers that no sound can be prepared with, or that are not those of a model's sounds.
    pub(crate) fn check(&self, audio: &AudioConfig) -> Result<(), ConfigError> {
        for (field, value, limit) in [
            ("sampling_rate", self.sampling_rate, 1 << 20),
            ("n_samples", self.n_samples, 1 << 26),
            ("n_fft", self.n_fft, self.n_samples),
            ("hop_length", self.hop_length, self.n_samples),
        ] {
            ConfigError::check_size(field, value, limit)?;
        }
        let bands = audio.num_mel_bins;
        if self.feature_size != bands {
            let expected = format!("audio_config.num_mel_bins {bands}");
            return Err(ConfigError::new(
                "feature_size",
                self.feature_size,
                expected,
            ));
        }
        let samples = audio.frames() * self.hop_length;
        if self.n_samples != samples {
            let expected = format!(
                "{samples}, {} frames of hop_length {}",
                audio.frames(),
                self.hop_length
            );
            return Err(ConfigError::new("n_samples", self.n_samples, expected));
        }
        Ok(())
    }

    /// Reads a sound from a WAV file and prepares it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has another sampling rate, or is too long.
    pub fn read(&self, path: &Path) -> Result<Input, Error> {
        let (samples, rate) = read_wav(path)?;
        if rate as usize != self.sampling_rate {
            let expected = self.sampling_rate;
            let message = format!("has {rate} samples a second, expected {expected}");
            return Err(Error::input(path, message));
        }
        if samples.len() > self.n_samples {
            let [found, most] =
                [samples.len(), self.n_samples].map(|n| n as f64 / self.sampling_rate as f64);
            let message = format!("takes {found:.2} seconds, expected at most {most:.2}");
            return Err(Error::input(path, message));
        }
        Ok(self.prepare(&samples))
    }

    /// Prepares a sound, and leaves out what is behind the longest.
    pub fn prepare(&self, samples: &[f32]) -> Input {
        let mut sound = samples[..samples.len().min(self.n_samples)].to_vec();
        sound.resize(self.n_samples, 0.0);
        let bins = self.n_fft / 2 + 1;
        let filters = filters(self.feature_size, self.n_fft, self.sampling_rate);
        let powers = powers(&sound, self.n_fft, self.hop_length);
        let logs = log_mel(&powers, &filters, bins);
        let frames = logs.len() / self.feature_size;
        Input::Sound(TensorData::new(logs, [self.feature_size, frames]))
    }
}
