use super::LmError;
use crate::files::FileError;
use std::fs;
use std::path::Path;
use tokenizers::Tokenizer;

/// The tokenizer of a checkpoint directory, from its `tokenizer.json`. The file's truncation and padding are
/// turned off.
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
/// assert_eq!(encode(&tokenizer, "one day")?, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When `tokenizer.json` is missing or cannot be read.
pub fn load_tokenizer(dir: &Path) -> Result<Tokenizer, LmError> {
    let path = dir.join("tokenizer.json");
    if !path.exists() && dir.join("tokenizer.model").exists() {
        let message = "missing, and tokenizer.model alone is not enough: convert it in Python with \
                       AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR), of transformers";
        return Err(FileError::invalid(&path, message).into());
    }
    let bytes = fs::read(&path).map_err(FileError::io(&path))?;
    let broken = |error: tokenizers::Error| FileError::invalid(&path, error);
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(broken)?;
    tokenizer
        .with_truncation(None)
        .map_err(broken)?
        .with_padding(None);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tokenizer_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = |dir: &Path| load_tokenizer(dir).unwrap_err().to_string();
        assert!(error(dir.path()).contains("tokenizer.json: "));
        fs::write(dir.path().join("tokenizer.model"), "").unwrap();
        assert!(error(dir.path()).contains("save_pretrained"));
        fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let error = error(dir.path());
        assert!(error.contains("tokenizer.json: ") && !error.contains("save_pretrained"));
    }
}
