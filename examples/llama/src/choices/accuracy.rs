use super::{Choice, Prompts, Question, Scorer};
use crate::error::Error;
use burn_eqat::lm::LmError;

/// A mean over questions, and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard error of the mean; `None` for a single question.
    pub stderr: Option<f64>,
}

impl Estimate {
    /// The part of the questions that were answered right.
    fn of(right: &[bool]) -> Self {
        let count = right.len() as f64;
        let mean = right.iter().filter(|right| **right).count() as f64 / count;
        // Of zeros and ones, with the sample's variance.
        let variance = mean * (1.0 - mean) * count / (count - 1.0);
        Self {
            mean,
            stderr: (right.len() > 1).then(|| (variance / count).sqrt()),
        }
    }
}

/// How a model answers a file of questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The number of questions.
    pub questions: usize,
    /// The right choice has the highest log-likelihood.
    pub acc: Estimate,
    /// The right choice has the highest log-likelihood per character; where the task has it.
    pub acc_norm: Option<Estimate>,
}

/// Asks the first `limit` questions, all of them without a limit. The callback `progress` gets the number of choices done
/// and in all, and may stop with an error.
///
/// # Errors
///
/// When there are no questions, or fewer than the prompts need, and those of [`Scorer::log_likelihoods`].
pub fn score(
    scorer: &Scorer<'_>,
    questions: &[Question],
    shots: usize,
    limit: Option<usize>,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
) -> Result<Score, Error> {
    let prompts = Prompts::new(questions, shots)?;
    let asked = &questions[..limit.unwrap_or(usize::MAX).min(questions.len())];
    if asked.is_empty() {
        return Err(Error::Setting("no question to ask".to_string()));
    }
    let texts: Vec<_> = asked
        .iter()
        .flat_map(|question| prompts.of(question))
        .collect();
    let sums = scorer.log_likelihoods(&texts, progress)?;
    let (mut right, mut right_norm, mut rest) = (Vec::new(), Vec::new(), sums.as_slice());
    for question in asked {
        let (own, later) = rest.split_at(question.choices.len());
        rest = later;
        right.push(first_best(own) == question.gold);
        let length = |choice: &Choice| choice.continuation.chars().count() as f64;
        let lengths = question.choices.iter().map(length);
        let per_character: Vec<f64> = own.iter().zip(lengths).map(|(sum, n)| sum / n).collect();
        right_norm.push(first_best(&per_character) == question.gold);
    }
    let normalized = asked.iter().all(|question| question.normalized);
    Ok(Score {
        questions: asked.len(),
        acc: Estimate::of(&right),
        acc_norm: normalized.then(|| Estimate::of(&right_norm)),
    })
}

/// The index of the largest number; of the first if there are several.
fn first_best(numbers: &[f64]) -> usize {
    let mut best = 0;
    for (index, number) in numbers.iter().enumerate() {
        if *number > numbers[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_is_chosen() {
        assert_eq!(first_best(&[-3.0, -1.0, -1.0]), 1);
        assert_eq!(first_best(&[-1.0]), 0);
    }

    #[test]
    fn standard_errors_are_those_of_the_mean() {
        let estimate = Estimate::of(&[true, false, true, true]);
        assert_eq!(estimate.mean, 0.75);
        // Deviations 0.25, 0.75, 0.25, 0.25: variance 0.75 / 3, divided by 4.
        assert!((estimate.stderr.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(Estimate::of(&[true]).stderr, None);
    }
}
