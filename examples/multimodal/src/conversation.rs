//! Questions and answers about an image or a sound, as a model's template writes them, in tokens.

use crate::error::Error;
use crate::front::Input;
use crate::model::Example;
use burn_eqat::lm;
use llama::chat::ChatTemplate;
use serde_json::json;
use tokenizers::Tokenizer;

/// What a model's conversations are made of.
#[derive(Clone, Debug)]
pub struct Conversations {
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// Turns to text.
    pub template: ChatTemplate,
    /// What a part of a message is called that is no text: `image` or `audio`.
    pub kind: &'static str,
    /// The token in whose place features come.
    pub media_token: u32,
    /// The features of an image or a sound.
    pub features: usize,
    /// The token that begins a text, if there is one.
    pub bos: Option<u32>,
    /// The token that ends an answer.
    pub eos: Option<u32>,
}

impl Conversations {
    /// The tokens of a question, up to the beginning of its answer, with one in the place of each feature.
    ///
    /// # Errors
    ///
    /// When the template or the tokenizer fails, or the text does not have one place for media.
    pub fn prompt(&self, question: &str) -> Result<Vec<u32>, Error> {
        self.begin(self.turn(question, true)?)
    }

    /// The tokens of a turn that is not the first.
    ///
    /// # Errors
    ///
    /// When the template or the tokenizer fails.
    pub fn next_turn(&self, question: &str) -> Result<Vec<u32>, Error> {
        self.turn(question, false)
    }

    /// The tokens of an answer with its end.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn answer(&self, answer: &str) -> Result<Vec<u32>, Error> {
        // A word behind the template's colon.
        let mut tokens = lm::encode(&self.tokenizer, &format!(" {answer}"))?;
        tokens.extend(self.eos);
        Ok(tokens)
    }

    /// A conversation whose answers are to be learned: questions and answers in their order.
    ///
    /// # Errors
    ///
    /// As [`prompt`](Self::prompt).
    pub fn example(&self, input: Input, turns: &[(&str, &str)]) -> Result<Example, Error> {
        let (mut tokens, mut is_answer) = (Vec::new(), Vec::new());
        for (at, (question, answer)) in turns.iter().enumerate() {
            tokens.extend(match at {
                0 => self.prompt(question)?,
                _ => self.next_turn(question)?,
            });
            is_answer.resize(tokens.len(), false);
            tokens.extend(self.answer(answer)?);
            is_answer.resize(tokens.len(), true);
        }
        Ok(Example {
            input,
            tokens,
            answer: is_answer,
        })
    }

    /// The text of tokens.
    ///
    /// # Errors
    ///
    /// When they cannot be decoded.
    pub fn text(&self, tokens: &[u32]) -> Result<String, Error> {
        let text = self.tokenizer.decode(tokens, true);
        let text = text.map_err(|error| lm::LmError::Tokenizer(error.to_string()))?;
        Ok(text.trim().to_string())
    }

    fn turn(&self, question: &str, with_media: bool) -> Result<Vec<u32>, Error> {
        let mut content = Vec::new();
        if with_media {
            content.push(json!({"type": self.kind}));
        }
        content.push(json!({"type": "text", "text": question}));
        let messages = [json!({"role": "user", "content": content})];
        let text = self.template.render_messages(&messages)?;
        Ok(lm::encode(&self.tokenizer, &text)?)
    }

    /// The beginning of a text, with its one place for media as wide as they are.
    fn begin(&self, turn: Vec<u32>) -> Result<Vec<u32>, Error> {
        let places = turn.iter().filter(|token| **token == self.media_token);
        let places = places.count();
        if places != 1 {
            let message = format!(
                "the text of the question has {places} places for {} features, expected 1",
                self.kind
            );
            return Err(Error::Setting(message));
        }
        // Some templates begin the text themselves.
        let bos = self.bos.filter(|bos| turn.first() != Some(bos));
        let mut tokens: Vec<u32> = bos.into_iter().collect();
        for token in turn {
            let times = if token == self.media_token {
                self.features
            } else {
                1
            };
            tokens.extend(std::iter::repeat_n(token, times));
        }
        Ok(tokens)
    }
}
