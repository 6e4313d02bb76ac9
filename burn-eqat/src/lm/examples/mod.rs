//! Texts of which some tokens are learned: instructions and their answers.

mod grouped;
mod loader;
mod packed;

use super::LmError;
use std::sync::Arc;

/// A text, and which of its tokens are to be learned.
///
/// ```
/// use burn_eqat::lm::Example;
///
/// // A question of three tokens with an answer of two.
/// let example = Example::new(vec![5, 6, 7, 20, 21], vec![3, 4]).expect("there is something to learn");
/// assert_eq!(example.clone().cut(4).unwrap().answers(), [3]);
/// // Nothing of the answer is left.
/// assert_eq!(example.cut(3), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    tokens: Vec<i32>,
    /// Positions, in rising order, none of them 0.
    answers: Vec<usize>,
}

impl Example {
    /// A text whose tokens at the positions `answers` are to be learned. The first token follows on nothing, so it cannot be
    /// learned, and neither can what is behind the end: such positions are left out. `None` where no other is left.
    pub fn new(tokens: Vec<i32>, mut answers: Vec<usize>) -> Option<Self> {
        answers.retain(|at| (1..tokens.len()).contains(at));
        answers.sort_unstable();
        answers.dedup();
        (!answers.is_empty()).then_some(Self { tokens, answers })
    }

    /// The beginning of the text, of at most that many tokens; `None` where it has nothing to learn.
    pub fn cut(mut self, seq_len: usize) -> Option<Self> {
        self.tokens.truncate(seq_len);
        Self::new(self.tokens, self.answers)
    }

    /// The tokens.
    pub fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// The positions of those that are learned, in rising order.
    pub fn answers(&self) -> &[usize] {
        &self.answers
    }
}

/// Texts for E2E-QP of which only the answers are learned, see [`Examples::loader`]. Clones share them.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::lm::{Example, Examples};
///
/// // A question of three tokens with an answer of two, and one with a shorter answer.
/// let examples = [
///     Example::new(vec![5, 6, 7, 20, 21], vec![3, 4]),
///     Example::new(vec![5, 6, 7, 22], vec![3]),
/// ];
/// let examples = Examples::new(examples.into_iter().flatten().collect());
/// let loader = examples.loader(2, None, &Device::flex());
/// let batch = loader.iter().next().unwrap()?;
/// // The shorter text is padded.
/// assert_eq!((batch.tokens.dims(), batch.predicted()), ([2, 5], 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Examples {
    items: Arc<Vec<Example>>,
}

impl Examples {
    /// Of these texts.
    pub fn new(items: Vec<Example>) -> Self {
        Self {
            items: Arc::new(items),
        }
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The texts, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Example> {
        self.items.iter()
    }

    /// The number of tokens that are learned.
    pub fn answers(&self) -> usize {
        self.iter().map(|example| example.answers.len()).sum()
    }

    /// Checks that every token is in a vocabulary of `vocab_size`. `origin` names the source of the tokens in the error, where
    /// the number of the text stands for the window.
    ///
    /// # Errors
    ///
    /// When a token is not in the vocabulary; the error names the first one.
    pub fn check_vocabulary(&self, vocab_size: usize, origin: &str) -> Result<(), LmError> {
        let outside = |token: &i32| usize::try_from(*token).map_or(true, |t| t >= vocab_size);
        for (window, example) in self.iter().enumerate() {
            if let Some(position) = example.tokens.iter().position(outside) {
                return Err(LmError::Token {
                    origin: origin.to_string(),
                    token: i64::from(example.tokens[position]),
                    window,
                    position,
                    vocab_size,
                });
            }
        }
        Ok(())
    }
}

impl FromIterator<Example> for Examples {
    fn from_iter<T: IntoIterator<Item = Example>>(items: T) -> Self {
        Self::new(items.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_on_something_is_learned() {
        let example = Example::new(vec![7, 8, 9], vec![2, 0, 1, 5, 2]).unwrap();
        assert_eq!(example.answers(), [1, 2]);
        assert_eq!(Example::new(vec![7, 8], vec![0, 2]), None);
        assert_eq!(example.clone().cut(2).unwrap().answers(), [1]);
        assert_eq!(example.clone().cut(9), Some(example.clone()));
        assert_eq!(example.cut(1), None);
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_named() {
        let examples: Examples = [vec![0, 1], vec![2, 9, 1]]
            .into_iter()
            .filter_map(|tokens| Example::new(tokens, vec![1]))
            .collect();
        assert!(examples.check_vocabulary(10, "a.json").is_ok());
        let error = examples.check_vocabulary(9, "a.json").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.json: token 9 at position 1 of window 1 is outside the vocabulary of 9"
        );
    }
}
