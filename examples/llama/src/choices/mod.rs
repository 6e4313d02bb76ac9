//! Multiple choice by log-likelihood, as lm-evaluation-harness does it.
//!
//! - [`read_questions`] reads a file of questions.
//! - [`Prompts`] puts answered questions in front of each.
//! - [`Scorer`] measures how likely a model takes each choice to be, and [`score`] counts the right ones.

mod accuracy;
mod log_likelihood;
mod prompt;
mod question;
mod read;

pub use accuracy::{Estimate, Score, score};
pub use log_likelihood::Scorer;
pub use prompt::{Prompt, Prompts};
pub use question::{Choice, Question};
pub use read::read_questions;
