use crate::chat::Message;
use crate::error::Error;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// An instruction with its answer, or a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversation {
    /// In Alpaca's form.
    Instruction {
        /// What to do.
        instruction: String,
        /// What to do it with; may be empty.
        input: String,
        /// The answer.
        output: String,
    },
    /// Messages, the last of which is an answer.
    Messages(Vec<Message>),
}

/// A record of a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Record {
    Messages {
        messages: Vec<Turn>,
    },
    Instruction {
        instruction: String,
        #[serde(default)]
        input: Option<String>,
        output: String,
    },
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: String,
}

/// Reads conversations: a JSON array, or one JSON object a line. Each record has `instruction`, `output` and maybe `input`
/// (Alpaca), or `messages` with `role` and `content`. Other fields are not looked at, and neither are messages behind the last
/// answer.
///
/// # Errors
///
/// When the file cannot be read, a record is not such an object, or has no answer; the error says which.
pub fn read_conversations(path: &Path) -> Result<Vec<Conversation>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let mut found = Vec::new();
    if text.trim_start().starts_with('[') {
        let records: Vec<Value> =
            serde_json::from_str(&text).map_err(|error| Error::input(path, error))?;
        for (index, record) in records.into_iter().enumerate() {
            let place = format!("record {}", index + 1);
            found.push(conversation(record).map_err(|why| wrong(path, &place, &why))?);
        }
    } else {
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let place = format!("line {}", index + 1);
            let record = serde_json::from_str(line)
                .map_err(|error| wrong(path, &place, &error.to_string()))?;
            found.push(conversation(record).map_err(|why| wrong(path, &place, &why))?);
        }
    }
    if found.is_empty() {
        return Err(Error::input(path, "holds no conversation"));
    }
    Ok(found)
}

fn wrong(path: &Path, place: &str, why: &str) -> Error {
    Error::input(path, format!("{place}: {why}"))
}

fn conversation(record: Value) -> Result<Conversation, String> {
    let record = serde_json::from_value(record).map_err(|_| {
        "expected an object with instruction and output, or with messages of role and content"
            .to_string()
    })?;
    match record {
        Record::Instruction {
            instruction,
            input,
            output,
        } => Ok(Conversation::Instruction {
            instruction,
            input: input.unwrap_or_default(),
            output,
        }),
        Record::Messages { messages } => {
            let answers = messages.iter().rposition(|turn| turn.role == "assistant");
            let Some(last) = answers else {
                return Err(
                    "messages has none of the role assistant, expected an answer".to_string(),
                );
            };
            let turns = messages.into_iter().take(last + 1);
            let messages = turns.map(|turn| Message {
                role: turn.role,
                content: turn.content,
            });
            Ok(Conversation::Messages(messages.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Conversation>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.json");
        std::fs::write(&path, text).unwrap();
        read_conversations(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_are_read_from_arrays_and_lines() {
        let alpaca = r#"{"instruction": "Add.", "input": "1 2", "output": "3", "id": 7}"#;
        let bare = r#"{"instruction": "Sing.", "output": "La."}"#;
        let chat = r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Bye"}]}"#
            .replace('\n', " ");
        let lines = read(&format!("{alpaca}\n\n{bare}\n{chat}\n")).unwrap();
        let array = read(&format!("[{alpaca},\n{bare}, {chat}]")).unwrap();
        assert_eq!(lines, array);
        let instruction =
            |instruction: &str, input: &str, output: &str| Conversation::Instruction {
                instruction: instruction.into(),
                input: input.into(),
                output: output.into(),
            };
        let messages = vec![
            Message::new("user", "Hi"),
            Message::new("assistant", "Yes?"),
        ];
        let expected = [
            instruction("Add.", "1 2", "3"),
            instruction("Sing.", "", "La."),
            Conversation::Messages(messages),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn records_of_another_form_are_named() {
        let fails = |text: &str, expected: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let good = r#"{"instruction": "Sing.", "output": "La."}"#;
        fails(
            &format!("{good}\n{{\"instruction\": \"Sing.\"}}"),
            "data.json: line 2: expected an object",
        );
        fails(
            &format!("[{good}, 3]"),
            "data.json: record 2: expected an object",
        );
        fails(&format!("{good}\n{{"), "data.json: line 2: ");
        fails(&format!("[{good}"), "data.json: ");
        let asked = r#"{"messages": [{"role": "user", "content": "Hi"}]}"#;
        fails(asked, "line 1: messages has none of the role assistant");
        fails("", "holds no conversation");
        fails("[]", "holds no conversation");
    }
}
