//! Instruction data from a file: conversations about images or sounds, in the format of LLaVA's.

use crate::conversation::Conversations;
use crate::error::Error;
use crate::model::Example;
use crate::processor::Processor;
use burn::data::dataset::{Dataset, DatasetError};
use burn_eqat::files::{FileError, read_json};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A conversation of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// Its image or sound.
    media: PathBuf,
    /// Questions and answers.
    turns: Vec<(String, String)>,
}

/// Conversations of a file, whose images or sounds are read when they are needed.
///
/// The file is a JSON list as LLaVA's instruction data is: `{"image": "001.jpg", "conversations": [{"from": "human", "value":
/// "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}`, with `audio` in place of `image` for sounds. Records
/// without an image or a sound are left out.
#[derive(Clone, Debug)]
pub struct Instructions {
    records: Arc<Vec<Record>>,
    first: usize,
    count: usize,
    conversations: Conversations,
    processor: Processor,
    max_positions: usize,
}

#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    image: Option<PathBuf>,
    #[serde(default)]
    audio: Option<PathBuf>,
    conversations: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    from: String,
    value: String,
}

impl Instructions {
    /// Reads a file. Images or sounds are in `folder`, and what is behind `max_positions` of a conversation is left out, whole
    /// turns of it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, no record has an image or a sound, or a conversation is not one of questions and answers.
    pub fn read(
        path: &Path,
        folder: &Path,
        (conversations, processor): (Conversations, Processor),
        max_positions: usize,
    ) -> Result<Self, Error> {
        let stored: Vec<Stored> = read_json(path)?;
        let mut records = Vec::new();
        for (index, record) in stored.into_iter().enumerate() {
            let media = match &processor {
                Processor::Image(_) => record.image,
                Processor::Sound(_) => record.audio,
            };
            let Some(media) = media else {
                continue;
            };
            let turns = turns(record.conversations)
                .map_err(|wrong| FileError::invalid(path, format!("record {index}: {wrong}")))?;
            let media = folder.join(media);
            records.push(Record { media, turns });
        }
        if records.is_empty() {
            let message = format!("no record has a field {:?}", processor.kind());
            return Err(FileError::invalid(path, message).into());
        }
        Ok(Self {
            first: 0,
            count: records.len(),
            records: Arc::new(records),
            conversations,
            processor,
            max_positions,
        })
    }

    /// Some of the conversations; fewer where the file has fewer.
    pub fn part(&self, first: usize, count: usize) -> Self {
        let first = first.min(self.count);
        Self {
            first: self.first + first,
            count: count.min(self.count - first),
            ..self.clone()
        }
    }

    fn example(&self, record: &Record) -> Result<Example, Error> {
        let input = self.processor.read(&record.media)?;
        let mut turns: Vec<(&str, &str)> = record
            .turns
            .iter()
            .map(|(question, answer)| (question.as_str(), answer.as_str()))
            .collect();
        loop {
            let example = self.conversations.example(input.clone(), &turns)?;
            let (tokens, limit) = (example.tokens.len(), self.max_positions);
            if tokens <= limit {
                return Ok(example);
            }
            turns.pop();
            if turns.is_empty() {
                let message = format!(
                    "the first question and its answer take {tokens} positions, expected at most {limit}"
                );
                return Err(Error::input(&record.media, message));
            }
        }
    }
}

/// Questions and answers in turn. The error says what is wrong.
fn turns(said: Vec<Said>) -> Result<Vec<(String, String)>, String> {
    let mut turns = Vec::new();
    let mut said = said.into_iter();
    while let Some(question) = said.next() {
        if !matches!(question.from.as_str(), "human" | "user") {
            return Err(format!("from is {:?}, expected \"human\"", question.from));
        }
        let Some(answer) = said.next() else {
            return Err("the last question has no answer".to_string());
        };
        if !matches!(answer.from.as_str(), "gpt" | "assistant") {
            return Err(format!("from is {:?}, expected \"gpt\"", answer.from));
        }
        // The template says where the media are.
        let question = ["<image>", "<audio>"]
            .iter()
            .fold(question.value, |text, place| text.replace(place, ""));
        turns.push((question.trim().to_string(), answer.value.trim().to_string()));
    }
    match turns.is_empty() {
        true => Err("conversations is empty, expected a question and its answer".to_string()),
        false => Ok(turns),
    }
}

impl Dataset<Example> for Instructions {
    fn get(&self, index: usize) -> Result<Example, DatasetError> {
        let record = &self.records[self.first + index];
        self.example(record).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_take_turns() {
        let said = |parts: &[(&str, &str)]| {
            let said = parts.iter().map(|(from, value)| Said {
                from: from.to_string(),
                value: value.to_string(),
            });
            turns(said.collect())
        };
        assert_eq!(
            said(&[("human", "What?\n<image>"), ("gpt", " A cat. ")]),
            Ok(vec![("What?".to_string(), "A cat.".to_string())])
        );
        for (wrong, part) in [
            (said(&[("gpt", "A cat.")]), "expected \"human\""),
            (said(&[("human", "What?")]), "no answer"),
            (
                said(&[("human", "What?"), ("human", "Why?")]),
                "expected \"gpt\"",
            ),
            (said(&[]), "is empty"),
        ] {
            assert!(wrong.unwrap_err().contains(part), "{part}");
        }
    }
}
