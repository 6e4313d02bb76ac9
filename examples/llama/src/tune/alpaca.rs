//! The prompt of Alpaca, for models without a chat template of their own.

use super::Conversation;
use crate::chat::Message;

/// A part of a conversation: what is asked, with everything around it, and the answer, if there is one yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub question: String,
    pub answer: Option<String>,
}

/// What the prompt begins with.
const TASK: &str = "Below is an instruction that describes a task. \
                    Write a response that appropriately completes the request.";
const TASK_WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that \
                               provides further context. Write a response that appropriately completes the request.";

/// The parts of a conversation.
pub(super) fn exchanges(conversation: &Conversation) -> Result<Vec<Exchange>, String> {
    match conversation {
        Conversation::Instruction {
            instruction,
            input,
            output,
        } => Ok(vec![Exchange {
            question: question(Some(task(input)), instruction, input),
            answer: Some(output.clone()),
        }]),
        Conversation::Messages(messages) => of_messages(messages),
    }
}

/// The parts of messages: an instruction and its answer in turn, maybe behind one of the system, which takes the place of what
/// Alpaca's prompts begin with.
pub(super) fn of_messages(messages: &[Message]) -> Result<Vec<Exchange>, String> {
    let (system, messages) = match messages.split_first() {
        Some((first, rest)) if first.role == "system" => (Some(first.content.as_str()), rest),
        _ => (None, messages),
    };
    let mut exchanges: Vec<Exchange> = Vec::new();
    for message in messages {
        let content = message.content.as_str();
        let waiting = exchanges.last_mut().filter(|last| last.answer.is_none());
        match (message.role.as_str(), waiting) {
            ("user", None) => {
                let begins = exchanges.is_empty().then_some(system.unwrap_or(TASK));
                exchanges.push(Exchange {
                    question: question(begins, content, ""),
                    answer: None,
                });
            }
            ("assistant", Some(last)) => last.answer = Some(content.to_string()),
            (role, _) => {
                return Err(format!(
                    "has a message of {role} where the Alpaca prompt cannot have it: expected user and assistant in turn"
                ));
            }
        }
    }
    if exchanges.is_empty() {
        return Err("has no message of the user".to_string());
    }
    Ok(exchanges)
}

fn task(input: &str) -> &'static str {
    match input.trim().is_empty() {
        true => TASK,
        false => TASK_WITH_INPUT,
    }
}

fn question(begins: Option<&str>, instruction: &str, input: &str) -> String {
    let instruction = instruction.trim();
    let mut text = match begins {
        Some(begins) => format!("{begins}\n\n### Instruction:\n{instruction}\n\n"),
        None => format!("### Instruction:\n{instruction}\n\n"),
    };
    if !input.trim().is_empty() {
        text += &format!("### Input:\n{}\n\n", input.trim());
    }
    text + "### Response:\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_put_as_alpaca_puts_them() {
        let of = |input: &str| {
            let conversation = Conversation::Instruction {
                instruction: "Add.".into(),
                input: input.into(),
                output: "3".into(),
            };
            let mut exchanges = exchanges(&conversation).unwrap();
            assert_eq!(exchanges.len(), 1);
            exchanges.remove(0)
        };
        assert_eq!(of("").answer.as_deref(), Some("3"));
        let expected = format!("{TASK}\n\n### Instruction:\nAdd.\n\n### Response:\n");
        assert_eq!(of(" ").question, expected);
        let expected = format!(
            "{TASK_WITH_INPUT}\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
        );
        assert_eq!(of("1 2").question, expected);
    }

    #[test]
    fn conversations_go_on_without_the_task() {
        let messages = [
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Yes?"),
            ("user", "Bye"),
        ];
        let messages = messages.map(|(role, content)| Message::new(role, content));
        let exchanges = of_messages(&messages).unwrap();
        let expected = [
            (
                "Be brief.\n\n### Instruction:\nHi\n\n### Response:\n",
                Some("Yes?"),
            ),
            ("### Instruction:\nBye\n\n### Response:\n", None),
        ];
        let expected = expected.map(|(question, answer)| Exchange {
            question: question.to_string(),
            answer: answer.map(str::to_string),
        });
        assert_eq!(exchanges, expected);
        let error = of_messages(&messages[2..]).unwrap_err();
        assert!(error.contains("a message of assistant"), "{error}");
        assert!(of_messages(&messages[..1]).is_err());
    }
}
