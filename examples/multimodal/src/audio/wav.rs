use crate::error::Error;
use burn_eqat::files::StagedFile;
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use std::path::Path;

/// Reads a WAV file: its samples from -1 to 1, the mean of all channels, and how many there are a second.
///
/// # Errors
///
/// When the file cannot be read, or is no WAV file.
pub fn read_wav(path: &Path) -> Result<(Vec<f32>, u32), Error> {
    let wrong = |error: hound::Error| Error::input(path, error);
    let mut reader = WavReader::open(path).map_err(wrong)?;
    let spec = reader.spec();
    let samples: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect(),
        SampleFormat::Int => {
            let largest = 2f32.powi(i32::from(spec.bits_per_sample) - 1);
            let samples = reader.samples::<i32>();
            samples.map(|sample| Ok(sample? as f32 / largest)).collect()
        }
    };
    let channels = usize::from(spec.channels.max(1));
    let samples = samples.map_err(wrong)?;
    let mean = |all: &[f32]| all.iter().sum::<f32>() / channels as f32;
    let sound: Vec<f32> = samples.chunks_exact(channels).map(mean).collect();
    if let Some(at) = sound.iter().position(|sample| !sample.is_finite()) {
        let message = format!("sample {at} is {}, expected a number", sound[at]);
        return Err(Error::input(path, message));
    }
    Ok((sound, spec.sample_rate))
}

/// Writes a WAV file of one channel in 16 bits. Samples are from -1 to 1.
///
/// # Errors
///
/// When the file cannot be written. An existing one is unchanged then.
pub fn write_wav(path: &Path, samples: &[f32], sampling_rate: u32) -> Result<(), Error> {
    let wrong = |error: hound::Error| Error::input(path, error);
    let spec = WavSpec {
        channels: 1,
        sample_rate: sampling_rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut staged = StagedFile::begin(path)?;
    let mut writer = WavWriter::new(staged.file(), spec).map_err(wrong)?;
    for sample in samples {
        let sample = (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16;
        writer.write_sample(sample).map_err(wrong)?;
    }
    writer.finalize().map_err(wrong)?;
    Ok(staged.commit()?)
}
