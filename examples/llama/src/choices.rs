//! Multiple choice by log-likelihood.

use crate::LlamaConfig;
use crate::error::Error;
use crate::model::Llama;
use burn::tensor::Device;
use burn_eqat::lm::{LmError, TokenBatch, encode, next_token_log_probs};
use serde::Deserialize;
use std::path::Path;
use tokenizers::Tokenizer;

/// A question with several continuations, one of which is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    query: String,
    choices: Vec<String>,
    gold: usize,
}

/// A line of a choices file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Choices {
        query: String,
        choices: Vec<String>,
        gold: usize,
    },
    /// A minimal pair of BLiMP: the good sentence should be the likelier.
    Pair {
        sentence_good: String,
        sentence_bad: String,
    },
}

/// Reads questions, one JSON object a line: `query`, `choices` and `gold`, or `sentence_good` and
/// `sentence_bad`.
///
/// # Errors
///
/// When the file cannot be read, a line is not such an object, or `gold` is not one of the choices.
pub fn read_questions(path: &Path) -> Result<Vec<Question>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let mut questions = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        let wrong = |message: String| Error::input(path, format!("line {}: {message}", number + 1));
        let line = serde_json::from_str(line).map_err(|_| {
            let forms = "query, choices and gold, or sentence_good and sentence_bad";
            wrong(format!("expected an object with {forms}"))
        })?;
        let question = match line {
            Line::Choices {
                query,
                choices,
                gold,
            } => Question {
                query,
                choices,
                gold,
            },
            Line::Pair {
                sentence_good,
                sentence_bad,
            } => Question {
                query: String::new(),
                choices: vec![sentence_good, sentence_bad],
                gold: 0,
            },
        };
        if question.gold >= question.choices.len() {
            let (gold, choices) = (question.gold, question.choices.len());
            return Err(wrong(format!(
                "gold is {gold}, expected less than {choices}"
            )));
        }
        if question
            .choices
            .iter()
            .any(|choice| choice.trim().is_empty())
        {
            return Err(wrong("has an empty choice".to_string()));
        }
        questions.push(question);
    }
    if questions.is_empty() {
        return Err(Error::input(path, "holds no questions"));
    }
    Ok(questions)
}

/// The part of the questions whose right choice is the likeliest after the query. The callback `progress` is called
/// for each question.
///
/// # Errors
///
/// When a text cannot be encoded, or `progress` returns an error.
pub fn accuracy(
    model: &Llama,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
    questions: &[Question],
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
) -> Result<f64, Error> {
    let mut right = 0;
    for (done, question) in questions.iter().enumerate() {
        let scores = scores(model, config, tokenizer, question, device)?;
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        right += usize::from(best == Some(question.gold));
        progress(done + 1, questions.len())?;
    }
    Ok(right as f64 / questions.len() as f64)
}

/// Log-likelihood of each choice after the query.
fn scores(
    model: &Llama,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
    question: &Question,
    device: &Device,
) -> Result<Vec<f64>, Error> {
    let tokens_of = |text: &str| -> Result<Vec<i32>, Error> {
        let bos = config.bos_token_id.into_iter();
        let ids = bos.chain(encode(tokenizer, text)?);
        Ok(ids.map(|id| id as i32).collect())
    };
    let gap = if question.query.is_empty() || question.query.ends_with(char::is_whitespace) {
        ""
    } else {
        " "
    };
    let query = tokens_of(&question.query)?;
    let mut rows = Vec::new();
    for choice in &question.choices {
        let tokens = tokens_of(&format!("{}{gap}{choice}", question.query))?;
        // Tokens may join across the border; the choice begins where the two first differ. The very
        // first token has nothing before it that could predict it.
        let shared = query
            .iter()
            .zip(&tokens)
            .take_while(|(a, b)| a == b)
            .count();
        let mut from = shared.clamp(1, tokens.len().max(1));
        // A text that is too long loses its beginning.
        let excess = tokens.len().saturating_sub(config.positions());
        from = from.saturating_sub(excess).max(1);
        rows.push((tokens[excess..].to_vec(), from));
    }
    let longest = rows
        .iter()
        .map(|(tokens, _)| tokens.len())
        .max()
        .unwrap_or(0)
        .max(2);
    let mut padded = Vec::with_capacity(rows.len() * longest);
    for (tokens, _) in &rows {
        // No position looks ahead, so padding after a text does not change it.
        padded.extend_from_slice(tokens);
        padded.extend(std::iter::repeat_n(0, longest - tokens.len()));
    }
    let tokens = TokenBatch::new(padded, longest, device).tokens;
    let log_probs = next_token_log_probs(model.forward(tokens.clone())?, tokens);
    let log_probs: Vec<f64> = log_probs.into_data().iter::<f64>().collect();
    Ok(rows
        .iter()
        .zip(log_probs.chunks_exact(longest - 1))
        .map(|((tokens, from), row)| row[from - 1..tokens.len() - 1].iter().sum())
        .collect())
}
