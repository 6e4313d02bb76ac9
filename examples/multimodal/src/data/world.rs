use super::{scene, sound};
use crate::config::ConfigError;
use crate::front::Input;
use crate::processor::Processor;
use core::fmt;
use image::{DynamicImage, RgbImage};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// What the samples are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum World {
    /// Pictures of coloured shapes.
    Shapes,
    /// Beeps, and tones that rise or fall.
    Tones,
}

/// A picture or a sound, and what can be asked about it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What was made.
    pub made: Made,
    /// Questions with their answers.
    pub turns: Vec<Turn>,
}

/// A picture or a sound, before it is prepared for a model.
#[derive(Clone, Debug)]
pub enum Made {
    /// A picture.
    Picture(RgbImage),
    /// Samples from -1 to 1, 8000 a second.
    Sound(Vec<f32>),
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The kind of question, one of [`World::kinds`].
    pub kind: &'static str,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
}

impl Turn {
    pub(super) fn new(kind: &'static str, question: String, answer: impl ToString) -> Self {
        let answer = answer.to_string();
        Self {
            kind,
            question,
            answer,
        }
    }
}

impl World {
    /// Both.
    pub const ALL: [World; 2] = [World::Shapes, World::Tones];

    /// Its name, which is that of its model's directory.
    pub fn name(self) -> &'static str {
        match self {
            World::Shapes => "shapes",
            World::Tones => "tones",
        }
    }

    /// The kinds of questions.
    pub fn kinds(self) -> &'static [&'static str] {
        match self {
            World::Shapes => &scene::KINDS,
            World::Tones => &sound::KINDS,
        }
    }

    /// Every word of its questions and answers.
    pub fn words(self) -> Vec<&'static str> {
        match self {
            World::Shapes => scene::words(),
            World::Tones => sound::words(),
        }
    }

    /// A sample, which depends only on the seed and its index: samples of different seeds are different, and none has to be
    /// stored.
    pub fn sample(self, seed: u64, index: usize) -> Sample {
        let mut random = StdRng::seed_from_u64((seed << 32) + index as u64);
        match self {
            World::Shapes => scene::sample(&mut random),
            World::Tones => sound::sample(&mut random),
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Made {
    /// Prepares it for a model.
    ///
    /// # Errors
    ///
    /// When the model takes the other kind.
    pub fn prepare(self, processor: &Processor) -> Result<Input, ConfigError> {
        match (self, processor) {
            (Made::Picture(picture), Processor::Image(image)) => {
                image.prepare(&DynamicImage::ImageRgb8(picture))
            }
            (Made::Sound(samples), Processor::Sound(sound)) => Ok(sound.prepare(&samples)),
            (Made::Picture(_), _) => Err(ConfigError::new("the input", "a picture", "a sound")),
            (Made::Sound(_), _) => Err(ConfigError::new("the input", "a sound", "a picture")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn samples_are_of_their_seed_and_use_known_words() {
        for world in World::ALL {
            let words: BTreeSet<&str> = world.words().into_iter().collect();
            let mut answers: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for index in 0..300 {
                let sample = world.sample(1, index);
                assert_eq!(sample.turns, world.sample(1, index).turns);
                for turn in sample.turns {
                    assert!(world.kinds().contains(&turn.kind));
                    let text = format!("{} {}", turn.question, turn.answer).replace('?', "");
                    for word in text.split_whitespace() {
                        assert!(words.contains(word), "{world}: {word:?} is no known word");
                    }
                    answers.entry(turn.kind).or_default().insert(turn.answer);
                }
            }
            for kind in world.kinds() {
                let answers = answers.get(kind).map_or(0, BTreeSet::len);
                assert!(answers >= 2, "{world}, {kind}: {answers} answers");
            }
        }
    }
}
