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
/// # Errors
///
/// When it cannot be encoded.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, LmError> {
    let encoding = tokenizer.encode(text, false).map_err(LmError::tokenizer)?;
    Ok(encoding.get_ids().to_vec())
}
