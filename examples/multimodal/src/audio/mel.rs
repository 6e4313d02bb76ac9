//! Log-mel frames, as Whisper's feature extractor makes them.

use realfft::RealFftPlanner;
use std::f64::consts::PI;

/// A bank of triangular filters over the frequencies of a transform: row by row, `[bands, bins]`, each of the same area. The
/// last reaches half the sampling rate: the 8000 Hz of Whisper's filters at Whisper's rate, 16000.
pub(super) fn filters(bands: usize, n_fft: usize, sampling_rate: usize) -> Vec<f64> {
    let bins = n_fft / 2 + 1;
    let top = mel(sampling_rate as f64 / 2.0);
    // Each band reaches from the middle of the one before it to that of the one behind it.
    let edges: Vec<f64> = (0..bands + 2)
        .map(|edge| hertz(top * edge as f64 / (bands + 1) as f64))
        .collect();
    let mut filters = Vec::with_capacity(bands * bins);
    for band in edges.windows(3) {
        let area = 2.0 / (band[2] - band[0]);
        for bin in 0..bins {
            let frequency = bin as f64 * sampling_rate as f64 / n_fft as f64;
            let rising = (frequency - band[0]) / (band[1] - band[0]);
            let falling = (band[2] - frequency) / (band[2] - band[1]);
            filters.push(area * rising.min(falling).max(0.0));
        }
    }
    filters
}

/// Above this the scale is logarithmic.
const CORNER: f64 = 1000.0;
/// Hertz of a mel below it.
const LINEAR: f64 = 200.0 / 3.0;
/// Mels of a factor of 6.4 above it.
const OCTAVES: f64 = 27.0;

fn mel(hertz: f64) -> f64 {
    if hertz < CORNER {
        return hertz / LINEAR;
    }
    CORNER / LINEAR + (hertz / CORNER).ln() * OCTAVES / 6.4f64.ln()
}

fn hertz(mel: f64) -> f64 {
    let corner = CORNER / LINEAR;
    if mel < corner {
        return mel * LINEAR;
    }
    CORNER * ((mel - corner) * 6.4f64.ln() / OCTAVES).exp()
}

/// The power of each frequency in each window, `[frames, bins]` row by row. Windows are centred at multiples of `hop`; beyond
/// its ends the sound is mirrored.
pub(super) fn powers(sound: &[f32], n_fft: usize, hop: usize) -> Vec<f64> {
    let window: Vec<f64> = (0..n_fft)
        .map(|at| 0.5 - 0.5 * (2.0 * PI * at as f64 / n_fft as f64).cos())
        .collect();
    let mirrored = |at: i64| {
        let last = sound.len() as i64 - 1;
        let at = at.abs();
        let at = if at > last { 2 * last - at } else { at };
        sound.get(at as usize).copied().unwrap_or(0.0)
    };
    let transform = RealFftPlanner::<f64>::new().plan_fft_forward(n_fft);
    let (mut input, mut output) = (transform.make_input_vec(), transform.make_output_vec());
    let frames = sound.len() / hop;
    let mut powers = Vec::with_capacity(frames * output.len());
    for frame in 0..frames {
        let start = (frame * hop) as i64 - (n_fft / 2) as i64;
        for (at, value) in input.iter_mut().enumerate() {
            *value = window[at] * f64::from(mirrored(start + at as i64));
        }
        transform
            .process(&mut input, &mut output)
            .expect("the lengths are those of the plan");
        powers.extend(output.iter().map(|bin| bin.norm_sqr()));
    }
    powers
}

/// Logarithms of the power in each band of `filters` (`[bands, bins]`), `[bands, frames]` row by row: over eight powers of ten
/// below the loudest, around zero.
pub(super) fn log_mel(powers: &[f64], filters: &[f64], bins: usize) -> Vec<f32> {
    let mut logs = Vec::with_capacity(filters.len() / bins * (powers.len() / bins));
    for filter in filters.chunks_exact(bins) {
        for frame in powers.chunks_exact(bins) {
            let power: f64 = filter.iter().zip(frame).map(|(f, p)| f * p).sum();
            logs.push(power.max(1e-10).log10());
        }
    }
    let loudest = logs.iter().copied().fold(f64::MIN, f64::max);
    let floored = logs.iter().map(|log| log.max(loudest - 8.0));
    floored.map(|log| ((log + 4.0) / 4.0) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_in_its_band() {
        let (rate, n_fft, hop, bands) = (8000, 256, 80, 40);
        let bins = n_fft / 2 + 1;
        let filters = filters(bands, n_fft, rate);
        for tone in [300.0, 1000.0, 2500.0] {
            let sound: Vec<f32> = (0..1600)
                .map(|at| (2.0 * PI * tone * at as f64 / rate as f64).sin() as f32)
                .collect();
            let logs = log_mel(&powers(&sound, n_fft, hop), &filters, bins);
            assert_eq!(logs.len(), bands * 20);
            let loudest = (0..bands)
                .max_by(|a, b| logs[a * 20 + 10].total_cmp(&logs[b * 20 + 10]))
                .unwrap();
            let middle = hertz(mel(rate as f64 / 2.0) * (loudest + 1) as f64 / (bands + 1) as f64);
            assert!(
                (middle - tone).abs() < 0.1 * tone,
                "{tone} Hz is at {middle} Hz"
            );
        }
    }

    #[test]
    fn the_scale_goes_there_and_back() {
        for frequency in [0.0, 440.0, 999.0, 1001.0, 7000.0] {
            assert!((hertz(mel(frequency)) - frequency).abs() < 1e-9 * (1.0 + frequency));
        }
    }
}
