use super::LmError;
use tokenizers::Tokenizer;

/// Tokens that become text, a piece at a time.
///
/// A character may take several tokens: it comes once it is whole.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// Bytes of the text that have come.
    shown: usize,
}

impl<'a> TextStream<'a> {
    /// A stream without tokens.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            tokens: Vec::new(),
            shown: 0,
        }
    }

    /// Takes tokens in, and gives back what is new of the text.
    ///
    /// # Errors
    ///
    /// When they cannot be decoded.
    pub fn push(&mut self, tokens: &[u32]) -> Result<String, LmError> {
        self.tokens.extend_from_slice(tokens);
        let text = self.text()?;
        if text.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        Ok(self.piece(&text))
    }

    /// What has not come of the text yet, where its last character is not whole.
    ///
    /// # Errors
    ///
    /// When the tokens cannot be decoded.
    pub fn finish(&mut self) -> Result<String, LmError> {
        let text = self.text()?;
        Ok(self.piece(&text))
    }

    /// The text of all tokens.
    ///
    /// # Errors
    ///
    /// When they cannot be decoded.
    pub fn text(&self) -> Result<String, LmError> {
        (self.tokenizer.decode(&self.tokens, true)).map_err(LmError::tokenizer)
    }

    fn piece(&mut self, text: &str) -> String {
        // A decoder may mend what it has decoded before; what was shown stays.
        let Some(piece) = text.get(self.shown..) else {
            return String::new();
        };
        self.shown = text.len();
        piece.to_string()
    }
}
