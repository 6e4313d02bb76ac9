use super::Conversation;
use super::alpaca::{exchanges, of_messages};
use crate::chat::{ChatTemplate, Message};
use crate::error::Error;
use crate::load::LoadedLlama;
use burn_eqat::lm::{Example, LmError, SpecialTokens, encode};
use std::ops::Range;
use std::path::PathBuf;
use std::slice;
use tokenizers::Tokenizer;

/// Writes conversations in the tokens of a model: in its own chat template, or in the Alpaca prompt if it has none.
pub struct Prompts<'a> {
    tokenizer: &'a Tokenizer,
    /// `None` for Alpaca's.
    template: Option<ChatTemplate>,
    special: SpecialTokens,
    /// All tokens that end an answer.
    eos: Vec<u32>,
    /// The model, for messages.
    dir: PathBuf,
}

impl<'a> Prompts<'a> {
    /// Those of a model.
    ///
    /// # Errors
    ///
    /// When a file of the template cannot be read.
    pub fn of(loaded: &LoadedLlama, tokenizer: &'a Tokenizer) -> Result<Self, Error> {
        let dir = loaded.checkpoint.dir().to_path_buf();
        Ok(Self {
            tokenizer,
            template: ChatTemplate::find(&dir)?,
            special: loaded.config.special_tokens(),
            eos: loaded.eos_tokens().to_vec(),
            dir,
        })
    }

    /// What they are, in a word or two.
    pub fn name(&self) -> &'static str {
        match self.template {
            Some(_) => "the model's chat template",
            None => "the Alpaca prompt",
        }
    }

    /// The tokens of a conversation, up to the beginning of the next answer.
    ///
    /// # Errors
    ///
    /// When the prompt cannot have such messages, or a text cannot be encoded.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        if let Some(template) = &self.template {
            return Ok(encode(self.tokenizer, &template.render(messages)?)?);
        }
        let mut tokens: Vec<u32> = self.special.bos.into_iter().collect();
        let exchanges = of_messages(messages).map_err(|why| Error::input(&self.dir, why))?;
        for exchange in exchanges {
            let answer = exchange.answer.as_deref().unwrap_or_default();
            let text = exchange.question + answer.trim();
            tokens.extend(encode(self.tokenizer, &text)?);
            if exchange.answer.is_some() {
                tokens.extend(self.special.eos);
            }
        }
        Ok(tokens)
    }

    /// The tokens of a whole conversation, to learn its answers from, each with the token that ends it; `None` where there is
    /// nothing in them.
    ///
    /// # Errors
    ///
    /// As [`prompt`](Self::prompt), as a message without a place; also when the template writes an answer in another way once
    /// more follows.
    pub fn example(&self, conversation: &Conversation) -> Result<Option<Example>, Error> {
        match &self.template {
            Some(template) => self.by_template(template, conversation),
            None => self.by_alpaca(conversation),
        }
    }

    fn by_alpaca(&self, conversation: &Conversation) -> Result<Option<Example>, Error> {
        let (mut tokens, mut answers) = (Vec::new(), Vec::new());
        tokens.extend(self.special.bos.map(|id| id as i32));
        for exchange in exchanges(conversation).map_err(Error::Setting)? {
            let answer = exchange.answer.unwrap_or_default();
            let begins = exchange.question.len();
            let text = exchange.question + answer.trim();
            let range = begins..text.len();
            self.push(&text, slice::from_ref(&range), &mut tokens, &mut answers)?;
            if let Some(eos) = self.special.eos {
                answers.push(tokens.len());
                tokens.push(eos as i32);
            }
        }
        Ok(Example::new(tokens, answers))
    }

    fn by_template(
        &self,
        template: &ChatTemplate,
        conversation: &Conversation,
    ) -> Result<Option<Example>, Error> {
        let messages = messages(conversation);
        let text = template.render_whole(&messages)?;
        let mut ranges = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role != "assistant" {
                continue;
            }
            let prompt = template.render(&messages[..index])?;
            let answered = template.render_whole(&messages[..=index])?;
            if !(answered.starts_with(&prompt) && text.starts_with(&answered)) {
                let number = index + 1;
                return Err(Error::Setting(format!(
                    "the chat template of {} writes message {number} in another way once more follows, so where the answer \
                     begins and ends is not known",
                    self.dir.display()
                )));
            }
            ranges.push(prompt.len()..answered.len());
        }
        let (mut tokens, mut answers) = (Vec::new(), Vec::new());
        self.push(&text, &ranges, &mut tokens, &mut answers)?;
        Ok(Example::new(tokens, answers))
    }

    /// Adds the tokens of a text, and the places of those that begin in one of these ranges of its bytes. Behind the token that
    /// ends an answer, nothing of the range is learned: a model is not asked for more.
    fn push(
        &self,
        text: &str,
        ranges: &[Range<usize>],
        tokens: &mut Vec<i32>,
        answers: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let encoding = self.tokenizer.encode(text, false);
        let encoding = encoding.map_err(|error| LmError::Tokenizer(error.to_string()))?;
        let (ids, offsets) = (encoding.get_ids(), encoding.get_offsets());
        for range in ranges {
            let inside = |at: &usize| range.contains(&offsets[*at].0);
            let inside: Vec<usize> = (0..ids.len()).filter(inside).collect();
            let end = inside.iter().rposition(|at| self.eos.contains(&ids[*at]));
            let end = end.map_or(inside.len(), |end| end + 1);
            answers.extend(inside[..end].iter().map(|at| tokens.len() + at));
        }
        tokens.extend(ids.iter().map(|id| *id as i32));
        Ok(())
    }
}

/// A conversation as messages.
fn messages(conversation: &Conversation) -> Vec<Message> {
    match conversation {
        Conversation::Messages(messages) => messages.clone(),
        Conversation::Instruction {
            instruction,
            input,
            output,
        } => {
            let asked = match input.trim() {
                "" => instruction.clone(),
                input => format!("{instruction}\n\n{input}"),
            };
            vec![
                Message::new("user", &asked),
                Message::new("assistant", output),
            ]
        }
    }
}
