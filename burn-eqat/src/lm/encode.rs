use super::{LmError, TokenWindows};
use tokenizers::Tokenizer;

/// The tokens that begin and end a text, if a model has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The BOS token.
    pub bos: Option<u32>,
    /// The EOS token.
    pub eos: Option<u32>,
}

/// Encodes documents, each between BOS and EOS, joins their tokens and splits them into windows. An
/// incomplete last window is dropped.
///
/// ```
/// use burn_eqat::lm::{SpecialTokens, encode_windows, load_tokenizer};
///
/// # let vocabulary = r#"{"<s>": 0, "one": 1, "day": 2, "?": 3}"#;
/// # let model = format!(r#"{{"type": "WordLevel", "vocab": {vocabulary}, "unk_token": "?"}}"#);
/// # let json = format!(r#"{{"version": "1.0", "pre_tokenizer": {{"type": "Whitespace"}}, "model": {model}}}"#);
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # std::fs::write(dir.join("tokenizer.json"), json)?;
/// let tokenizer = load_tokenizer(dir)?;
/// let special = SpecialTokens { bos: Some(0), eos: None };
/// let documents = ["one day".to_string(), "day one one".to_string()];
/// let windows = encode_windows(&tokenizer, &documents, special, 3)?;
/// assert_eq!(windows.tokens(), [0, 1, 2, 0, 2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a document cannot be encoded.
pub fn encode_windows(
    tokenizer: &Tokenizer,
    documents: &[String],
    special: SpecialTokens,
    seq_len: usize,
) -> Result<TokenWindows, LmError> {
    let mut tokens = Vec::new();
    for document in documents {
        tokens.extend(special.bos.map(|id| id as i32));
        tokens.extend(encode(tokenizer, document)?.iter().map(|id| *id as i32));
        tokens.extend(special.eos.map(|id| id as i32));
    }
    Ok(TokenWindows::new(tokens, seq_len))
}

/// The tokens of a text, without BOS and EOS.
///
/// ```
/// use burn_eqat::lm::{encode, load_tokenizer};
///
/// # let vocabulary = r#"{"<s>": 0, "one": 1, "day": 2, "?": 3}"#;
/// # let model = format!(r#"{{"type": "WordLevel", "vocab": {vocabulary}, "unk_token": "?"}}"#);
/// # let json = format!(r#"{{"version": "1.0", "pre_tokenizer": {{"type": "Whitespace"}}, "model": {model}}}"#);
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # std::fs::write(dir.join("tokenizer.json"), json)?;
/// let tokenizer = load_tokenizer(dir)?;
/// // Its vocabulary has no "night".
/// assert_eq!(encode(&tokenizer, "one day one night")?, [1, 2, 1, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When it cannot be encoded.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, LmError> {
    let encoding = tokenizer.encode(text, false).map_err(LmError::tokenizer)?;
    Ok(encoding.get_ids().to_vec())
}
