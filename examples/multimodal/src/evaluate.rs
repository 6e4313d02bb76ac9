//! How many questions about unseen samples a model answers correctly.

use crate::conversation::Conversations;
use crate::data::World;
use crate::error::Error;
use crate::front::{Input, Media};
use crate::model::{AnswerLimits, Multimodal};
use crate::processor::Processor;
use burn::tensor::Device;
use burn_eqat::lm::{LmError, Sampler};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How answers are picked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 for the likeliest word each time.
    pub temperature: f64,
    /// Seed of the sampling.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest word each time.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        seed: 0,
    };
}

/// Questions about unseen samples, with their answers in tokens. Those of the same length are together.
pub struct Exam {
    batches: Vec<Vec<Question>>,
    kinds: &'static [&'static str],
    limits: AnswerLimits,
}

struct Question {
    kind: &'static str,
    input: Input,
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

/// The parts of the questions of each kind that were answered correctly, in the order of the kinds, and of all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// Of each kind.
    pub by_kind: Vec<f64>,
    /// Of all questions.
    pub all: f64,
}

/// Questions that are asked at a time.
const BATCH: usize = 64;

impl Exam {
    /// So many questions of each kind, about samples of a seed.
    ///
    /// # Errors
    ///
    /// When a question cannot be put into the model's tokens, or an input not be prepared.
    pub fn new(
        world: World,
        (seed, per_kind): (u64, usize),
        conversations: &Conversations,
        processor: &Processor,
        limits: AnswerLimits,
    ) -> Result<Self, Error> {
        let mut counts: BTreeMap<&str, usize> =
            world.kinds().iter().map(|kind| (*kind, 0)).collect();
        let mut by_length: BTreeMap<usize, Vec<Question>> = BTreeMap::new();
        let mut index = 0;
        while counts.values().any(|count| *count < per_kind) {
            let sample = world.sample(seed, index);
            index += 1;
            let input = sample.made.prepare(processor);
            let input = input.map_err(Error::config("the sample".as_ref()))?;
            for turn in sample.turns {
                let count = counts.entry(turn.kind).or_default();
                if *count == per_kind {
                    continue;
                }
                *count += 1;
                let prompt = conversations.prompt(&turn.question)?;
                let mut answer = conversations.answer(&turn.answer)?;
                answer.retain(|token| Some(*token) != conversations.eos);
                by_length.entry(prompt.len()).or_default().push(Question {
                    kind: turn.kind,
                    input: input.clone(),
                    prompt,
                    answer,
                });
            }
        }
        let mut batches = Vec::new();
        for mut questions in by_length.into_values() {
            while !questions.is_empty() {
                let rest = questions.split_off(questions.len().min(BATCH));
                batches.push(std::mem::replace(&mut questions, rest));
            }
        }
        Ok(Self {
            batches,
            kinds: world.kinds(),
            limits,
        })
    }

    /// The number of questions.
    pub fn questions(&self) -> usize {
        self.batches.iter().map(Vec::len).sum()
    }

    /// Asks all questions. An answer is right if it is the expected one, word for word.
    ///
    /// # Errors
    ///
    /// When the model cannot run.
    pub fn marks(
        &self,
        model: &Multimodal,
        sampling: Sampling,
        device: &Device,
    ) -> Result<Marks, Error> {
        let mut sampler = Sampler::new(sampling.temperature, 1.0, sampling.seed);
        let mut right_of: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for batch in &self.batches {
            let inputs: Vec<&Input> = batch.iter().map(|question| &question.input).collect();
            let media = Media::stack(&inputs, device).map_err(LmError::Model)?;
            let prompts: Vec<Vec<u32>> = batch.iter().map(|q| q.prompt.clone()).collect();
            let answers = model.answer(media, &prompts, &self.limits, &mut sampler, device)?;
            for (question, answer) in batch.iter().zip(answers) {
                let (right, asked) = right_of.entry(question.kind).or_default();
                *right += usize::from(answer == question.answer);
                *asked += 1;
            }
        }
        let part = |(right, asked): (usize, usize)| right as f64 / asked.max(1) as f64;
        let of_kind = |kind: &&str| right_of.get(kind).copied().unwrap_or_default();
        let (right, asked) = right_of
            .values()
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Ok(Marks {
            by_kind: self.kinds.iter().map(|kind| part(of_kind(kind))).collect(),
            all: part((right, asked)),
        })
    }
}
