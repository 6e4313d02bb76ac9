use super::LmError;
use tokenizers::Tokenizer;

/// Decodes tokens to text, piece by piece.
///
/// A character may take several tokens; it is returned once it is complete.
///
/// ```
/// use burn_eqat::lm::{TextStream, load_tokenizer};
///
/// # let vocabulary = r#"{"<s>": 0, "one": 1, "day": 2, "?": 3}"#;
/// # let model = format!(r#"{{"type": "WordLevel", "vocab": {vocabulary}, "unk_token": "?"}}"#);
/// # let json = format!(r#"{{"version": "1.0", "pre_tokenizer": {{"type": "Whitespace"}}, "model": {model}}}"#);
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # std::fs::write(dir.join("tokenizer.json"), json)?;
/// let tokenizer = load_tokenizer(dir)?;
/// let mut stream = TextStream::new(&tokenizer);
/// let mut text = stream.push(&[1])?;
/// text += &stream.push(&[2])?;
/// text += &stream.finish()?;
/// assert_eq!(text, "one day");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// Bytes of the text that were returned.
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

    /// Adds tokens, and returns the new part of the text.
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

    /// The rest of the text, whose last character may be incomplete.
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
        // A decoder may change earlier text; the returned text stays.
        let Some(piece) = text.get(self.shown..) else {
            return String::new();
        };
        self.shown = text.len();
        piece.to_string()
    }
}
