//! Sounds: one to six beeps of four pitches, or a tone that rises or falls.

use super::world::{Made, Sample, Turn};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::f32::consts::PI;

/// Samples a second.
pub(crate) const RATE: usize = 8000;
/// Samples of a sound.
pub(crate) const SAMPLES: usize = 10_240;

/// The kinds of questions.
pub(super) const KINDS: [&str; 5] = ["count", "is-there", "pitch", "direction", "caption"];

/// Pitches, from low to high, with their frequencies.
const PITCHES: [(&str, std::ops::Range<f32>); 4] = [
    ("low", 250.0..400.0),
    ("middle", 550.0..850.0),
    ("high", 1100.0..1700.0),
    ("shrill", 2200.0..3200.0),
];

/// The most beeps of a sound.
const MOST: usize = 6;

const COUNT: &str = "how many beeps?";
const DIRECTION: &str = "is the tone rising or falling?";
const CAPTION: &str = "what do you hear?";

/// Every word of questions and answers.
pub(super) fn words() -> Vec<&'static str> {
    let mut words = vec![
        "how", "many", "beep", "beeps", "the", "is", "tone", "rising", "or", "falling", "what",
        "do", "you", "hear", "a", "there", "yes", "no", "first", "last", "0", "1", "2", "3", "4",
        "5", "6",
    ];
    words.extend(PITCHES.iter().map(|(name, _)| *name));
    words
}

/// A sound with the questions that it allows.
pub(super) fn sample(random: &mut StdRng) -> Sample {
    let (mut samples, mut turns) = if random.random_bool(0.75) {
        beeps(random)
    } else {
        glide(random)
    };
    for sample in &mut samples {
        *sample += random.random_range(-0.01..0.01f32);
    }
    turns.shuffle(random);
    Sample {
        made: Made::Sound(samples),
        turns,
    }
}

fn beeps(random: &mut StdRng) -> (Vec<f32>, Vec<Turn>) {
    let pitches: Vec<usize> = (0..random.random_range(1..=MOST))
        .map(|_| random.random_range(0..PITCHES.len()))
        .collect();
    let count = pitches.len();
    // A beep and the silence behind it; what is left is before the first.
    let (length, pause) = (
        random.random_range(500..900usize),
        random.random_range(350..700usize),
    );
    let start = random.random_range(0..=SAMPLES - count * (length + pause));
    let volume = random.random_range(0.3..0.8);
    let mut samples = vec![0.0; SAMPLES];
    for (beep, pitch) in pitches.iter().enumerate() {
        let frequency = random.random_range(PITCHES[*pitch].1.clone());
        let from = start + beep * (length + pause);
        tone(&mut samples[from..from + length], volume, |_| frequency);
    }
    let names: Vec<&str> = pitches.iter().map(|pitch| PITCHES[*pitch].0).collect();
    let asked = PITCHES[random.random_range(0..PITCHES.len())].0;
    let there = if names.contains(&asked) { "yes" } else { "no" };
    let (place, named) = if random.random() {
        ("first", names[0])
    } else {
        ("last", names[count - 1])
    };
    let turns = vec![
        Turn::new("count", COUNT.into(), count),
        Turn::new("is-there", format!("is there a {asked} beep?"), there),
        Turn::new("pitch", format!("what is the {place} beep?"), named),
        Turn::new("caption", CAPTION.into(), names.join(" ")),
    ];
    (samples, turns)
}

fn glide(random: &mut StdRng) -> (Vec<f32>, Vec<Turn>) {
    let rising = random.random();
    let low = random.random_range(300.0..900.0f32);
    let high = low * random.random_range(1.5..2.5);
    let (from, to) = if rising { (low, high) } else { (high, low) };
    let length = random.random_range(4000..9000usize);
    let start = random.random_range(0..=SAMPLES - length);
    let volume = random.random_range(0.3..0.8);
    let mut samples = vec![0.0; SAMPLES];
    tone(&mut samples[start..start + length], volume, |part| {
        from + (to - from) * part
    });
    let direction = if rising { "rising" } else { "falling" };
    let turns = vec![
        Turn::new("count", COUNT.into(), 0),
        Turn::new("direction", DIRECTION.into(), direction),
        Turn::new("caption", CAPTION.into(), format!("a {direction} tone")),
    ];
    (samples, turns)
}

/// Writes a tone whose frequency depends on the part of it that is over, and that begins and ends softly.
fn tone(samples: &mut [f32], volume: f32, frequency: impl Fn(f32) -> f32) {
    /// Samples in which it swells.
    const SWELL: usize = 80;
    let length = samples.len();
    let mut phase = 0.0;
    for (at, sample) in samples.iter_mut().enumerate() {
        phase += 2.0 * PI * frequency(at as f32 / length as f32) / RATE as f32;
        let swell = (at.min(length - 1 - at) as f32 / SWELL as f32).min(1.0);
        *sample = volume * swell * phase.sin();
    }
}
