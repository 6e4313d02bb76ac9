//! The conversations of a tuning, in tokens.

use super::Args;
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::tune::{Prompts, read_conversations};
use burn_eqat::lm::{Example, Examples};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;
use std::path::Path;

/// What is trained and validated on.
pub(super) struct Data {
    pub train: Examples,
    pub valid: Examples,
    pub counts: Counts,
}

/// How many conversations there are.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counts {
    /// In the file.
    pub found: usize,
    /// Those that lost their end.
    pub cut: usize,
    /// Those whose answers begin behind the longest length, or that have none.
    pub left_out: usize,
    pub train: usize,
    pub valid: usize,
    /// Windows that those to train on are packed into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<usize>,
    /// Tokens that are learned in an epoch.
    pub answer_tokens: usize,
}

impl Data {
    /// Reads what the flags ask for from the file at `path`.
    pub fn read(
        args: &Args,
        path: &Path,
        loaded: &LoadedLlama,
        prompts: &Prompts<'_>,
    ) -> Result<Self, Error> {
        let limit = loaded.config.positions();
        let seq_len = args.seq_len.unwrap_or(512.min(limit));
        if seq_len > limit {
            let message = format!("--seq-len is {seq_len}, expected at most the model's {limit}");
            return Err(Error::Setting(message));
        }
        let conversations = read_conversations(path)?;
        let mut counts = Counts {
            found: conversations.len(),
            ..Counts::default()
        };
        let mut examples: Vec<Example> = Vec::new();
        for (index, conversation) in conversations.iter().enumerate() {
            let example = prompts.example(conversation).map_err(|error| {
                Error::input(path, format!("conversation {}: {error}", index + 1))
            })?;
            let long = example
                .as_ref()
                .is_some_and(|example| example.tokens().len() > seq_len);
            match example.and_then(|example| example.cut(seq_len)) {
                Some(example) => {
                    counts.cut += usize::from(long);
                    examples.push(example);
                }
                None => counts.left_out += 1,
            }
        }
        examples.shuffle(&mut StdRng::seed_from_u64(args.seed()));
        let valid = args.val_size.unwrap_or((examples.len() / 10).min(64));
        if valid >= examples.len() {
            let found = examples.len();
            let message = format!(
                "has {found} conversations with answers in the first {seq_len} tokens, expected more than the {valid} to validate on"
            );
            return Err(Error::input(path, message));
        }
        let mut train = examples.split_off(valid);
        if let Some(asked) = args.train_size {
            if asked > train.len() {
                let there = train.len();
                let message = format!(
                    "has {there} conversations to train on, expected {asked} (--train-size)"
                );
                return Err(Error::input(path, message));
            }
            train.truncate(asked);
        }
        let (mut train, valid) = (Examples::new(train), Examples::new(examples));
        counts.train = train.len();
        counts.valid = valid.len();
        counts.answer_tokens = train.answers();
        if args.packing {
            train = train.packed(seq_len);
            counts.windows = Some(train.len());
        }
        for examples in [&train, &valid] {
            examples.check_vocabulary(loaded.config.vocab_size, "tokenizer.json")?;
        }
        Ok(Self {
            train,
            valid,
            counts,
        })
    }
}

impl Counts {
    /// In a line.
    pub fn line(&self) -> String {
        let Self {
            found,
            cut,
            left_out,
            train,
            valid,
            windows,
            answer_tokens,
        } = self;
        let mut line = format!("{found} conversations: {train} to train on");
        if let Some(windows) = windows {
            line += &format!(" in {windows} windows");
        }
        line += &format!(", with {answer_tokens} tokens of answers; {valid} to validate on");
        for (count, what) in [(cut, "lost their end"), (left_out, "left out")] {
            if *count > 0 {
                line += &format!("; {count} {what}");
            }
        }
        line
    }
}
