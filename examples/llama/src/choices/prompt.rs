use super::question::GAP;
use super::{Choice, Question};
use crate::error::Error;

/// What stands between the examples of a prompt.
const BETWEEN: &str = "\n\n";

/// A text that is given, and one that is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The examples, then the context of the choice.
    pub context: String,
    /// The continuation, with what divides it from the context.
    pub continuation: String,
}

/// The prompts of a file's questions, with answered questions in front of each (few-shot): the first of the file, without
/// the one that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Prompts<'a> {
    questions: &'a [Question],
    shots: usize,
}

impl<'a> Prompts<'a> {
    /// Prompts with so many examples.
    ///
    /// # Errors
    ///
    /// When there are not as many other questions.
    pub fn new(questions: &'a [Question], shots: usize) -> Result<Self, Error> {
        let others = questions.len().saturating_sub(1);
        if shots > others {
            let message = format!(
                "{shots} examples in front of each question, but there are only {others} others"
            );
            return Err(Error::Setting(message));
        }
        Ok(Self { questions, shots })
    }

    /// The prompts of a question, one for each choice.
    pub fn of(&self, question: &Question) -> Vec<Prompt> {
        let others = self.questions.iter().filter(|other| *other != question);
        let examples: String = others
            .take(self.shots)
            .map(|example| format!("{}{BETWEEN}", example.answered()))
            .collect();
        let prompt = |choice: &Choice| Prompt {
            context: format!("{examples}{}", choice.context),
            continuation: format!("{GAP}{}", choice.continuation),
        };
        question.choices.iter().map(prompt).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(context: &str, continuations: [&str; 2], gold: usize) -> Question {
        let choice = |continuation: &str| Choice {
            context: context.to_string(),
            continuation: continuation.to_string(),
        };
        Question {
            choices: continuations.map(choice).into(),
            gold,
            normalized: true,
        }
    }

    #[test]
    fn a_question_is_no_example_of_itself() {
        let questions = [
            question("1?", ["a", "b"], 1),
            question("2?", ["c", "d"], 0),
            question("3?", ["e", "f"], 0),
        ];
        let prompts = Prompts::new(&questions, 1).unwrap();
        let asked = |index: usize| {
            let prompts = prompts.of(&questions[index]).into_iter();
            let texts = prompts.map(|p| format!("{}|{}", p.context, p.continuation));
            texts.collect::<Vec<_>>()
        };
        assert_eq!(asked(0), ["2? c\n\n1?| a", "2? c\n\n1?| b"]);
        assert_eq!(asked(2), ["1? b\n\n3?| e", "1? b\n\n3?| f"]);
        assert!(Prompts::new(&questions, 2).is_ok());
        let error = Prompts::new(&questions, 3).unwrap_err().to_string();
        assert!(error.contains("only 2 others"), "{error}");
    }
}
