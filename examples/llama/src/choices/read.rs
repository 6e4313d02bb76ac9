use super::{Choice, Question};
use crate::error::Error;
use serde::Deserialize;
use std::path::Path;

/// A line of a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    /// A context, and continuations of which one is right.
    Choices {
        query: String,
        choices: Vec<String>,
        gold: usize,
    },
    /// WinoGrande: contexts of which one is right, and what follows each of them. Only that is scored.
    Contexts {
        context_options: Vec<String>,
        continuation: String,
        gold: usize,
    },
    /// A minimal pair of BLiMP: the good sentence should be the likelier.
    Pair {
        sentence_good: String,
        sentence_bad: String,
    },
}

/// The forms of a line, for errors.
const FORMS: &str = "query, choices and gold, or context_options, continuation and gold, or sentence_good and \
                     sentence_bad";

/// Reads questions, one JSON object a line:
///
/// | fields | task | measured |
/// |---|---|---|
/// | `query`, `choices`, `gold` | ARC, PIQA, COPA, HellaSwag | each choice after the query |
/// | `context_options`, `continuation`, `gold` | WinoGrande | the continuation after each context |
/// | `sentence_good`, `sentence_bad` | BLiMP | both sentences |
///
/// A query that begins with `Question:` ends with a line `Answer:` in lm-evaluation-harness's ARC and PIQA. Where it
/// has none, it is added.
///
/// # Errors
///
/// When the file cannot be read, a line is not such an object, a choice is empty, or `gold` is not one of the choices.
pub fn read_questions(path: &Path) -> Result<Vec<Question>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let mut questions = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let wrong = |message: String| Error::input(path, format!("line {}: {message}", number + 1));
        let line = serde_json::from_str(line)
            .map_err(|_| wrong(format!("expected an object with {FORMS}")))?;
        let question = question(line);
        let (gold, choices) = (question.gold, question.choices.len());
        if gold >= choices {
            let message = format!("gold is {gold}, expected less than {choices}");
            return Err(wrong(message));
        }
        let empty = |choice: &Choice| choice.continuation.trim().is_empty();
        if question.choices.iter().any(empty) {
            return Err(wrong("has an empty choice".to_string()));
        }
        questions.push(question);
    }
    if questions.is_empty() {
        return Err(Error::input(path, "holds no questions"));
    }
    Ok(questions)
}

fn question(line: Line) -> Question {
    match line {
        Line::Choices {
            query,
            choices,
            gold,
        } => {
            let context = asking(query);
            let choice = |continuation| Choice {
                context: context.clone(),
                continuation,
            };
            Question {
                choices: choices.into_iter().map(choice).collect(),
                gold,
                normalized: true,
            }
        }
        Line::Contexts {
            context_options,
            continuation,
            gold,
        } => {
            let choice = |context| Choice {
                context,
                continuation: continuation.clone(),
            };
            Question {
                choices: context_options.into_iter().map(choice).collect(),
                gold,
                normalized: false,
            }
        }
        Line::Pair {
            sentence_good,
            sentence_bad,
        } => {
            let choice = |continuation| Choice {
                context: String::new(),
                continuation,
            };
            Question {
                choices: [sentence_good, sentence_bad].map(choice).into(),
                gold: 0,
                normalized: false,
            }
        }
    }
}

/// A query as the harness asks it.
fn asking(query: String) -> String {
    if query.starts_with("Question:") && !query.contains("Answer:") {
        format!("{}\nAnswer:", query.trim_end())
    } else {
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(lines: &[serde_json::Value]) -> Result<Vec<Question>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("task.jsonl");
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        std::fs::write(&path, lines.join("\n\n")).unwrap();
        read_questions(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_of_each_form() {
        let questions = read(&[
            json!({"query": "Question: Is it?\n", "choices": ["No.", "It is."], "gold": 1}),
            json!({"query": "It rained, so", "choices": ["a", "b", "c"], "gold": 0, "more": 1}),
            json!({"context_options": ["He met Al and Al", "He met Al and Bo"], "continuation": "ran.", "gold": 1}),
            json!({"sentence_good": "It is.", "sentence_bad": "Is it it."}),
        ])
        .unwrap();
        let answered: Vec<String> = questions.iter().map(Question::answered).collect();
        assert_eq!(
            answered,
            [
                "Question: Is it?\nAnswer: It is.",
                "It rained, so a",
                "He met Al and Bo ran.",
                " It is."
            ]
        );
        let normalized: Vec<bool> = questions.iter().map(|q| q.normalized).collect();
        assert_eq!(normalized, [true, true, false, false]);
        assert_eq!(questions[2].choices[0].context, "He met Al and Al");
    }

    #[test]
    fn wrong_lines_are_named() {
        let good = json!({"query": "a", "choices": ["b", "c"], "gold": 1});
        for (line, expected) in [
            (
                json!({"query": 3}),
                "line 3: expected an object with query, choices and gold, or",
            ),
            (
                json!({"query": "a", "choices": ["b"], "gold": 1}),
                "line 3: gold is 1, expected less than 1",
            ),
            (
                json!({"query": "a", "choices": ["b", " "], "gold": 1}),
                "line 3: has an empty choice",
            ),
        ] {
            let error = read(&[good.clone(), line]).unwrap_err();
            assert!(
                error.contains(&format!("task.jsonl: {expected}")),
                "{error}"
            );
        }
        assert!(read(&[]).unwrap_err().ends_with("holds no questions"));
    }
}
