//! The windows that the literature measures perplexity on.

mod python_random;

use crate::error::Error;
use burn_eqat::lm::{LmError, TokenWindows, encode, is_json_lines, read_json_lines};
use python_random::PythonRandom;
use serde::Serialize;
use std::path::Path;
use tokenizers::Tokenizer;

/// Slices of C4.
const SLICES: usize = 256;
/// Seed of the slices.
const SEED: u32 = 0;

/// How a text is cut into windows: as the code of GPTQ, EfficientQAT and others does it, so that perplexities can be
/// compared with published ones. Their windows have 2048 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// WikiText-2's raw test text, its lines joined by empty lines and encoded as a whole, in windows that do not
    /// overlap
    Wikitext2,
    /// 256 slices at random places of C4's documents, drawn with Python's generator, seed 0
    C4,
}

impl Protocol {
    /// The windows of a file. With a BOS token, each encoded text begins with it.
    ///
    /// - WikiText-2: a text file, or a `.jsonl` file with a field `text` for each of its lines. A line of nothing but
    ///   spaces is an empty one.
    /// - C4: a `.jsonl` file with a field `text` for each document, such as the first shard of the validation split.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, cannot be encoded, or has no text that is long enough.
    pub fn windows(
        self,
        path: &Path,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
        seq_len: usize,
    ) -> Result<TokenWindows, Error> {
        let texts = read_texts(path)?;
        let encode = |text: &str| -> Result<Vec<i32>, LmError> {
            let ids = bos.into_iter().chain(encode(tokenizer, text)?);
            Ok(ids.map(|id| id as i32).collect())
        };
        let windows = match self {
            Protocol::Wikitext2 => TokenWindows::new(encode(&texts.join("\n\n"))?, seq_len),
            Protocol::C4 => TokenWindows::new(slices(&texts, encode, seq_len)?, seq_len),
        };
        if windows.is_empty() {
            let message = format!("has no text of {seq_len} tokens and more");
            return Err(Error::input(path, message));
        }
        Ok(windows)
    }
}

/// The tokens of all slices; none if every text is too short.
fn slices(
    texts: &[String],
    encode: impl Fn(&str) -> Result<Vec<i32>, LmError>,
    seq_len: usize,
) -> Result<Vec<i32>, LmError> {
    let mut random = PythonRandom::new(SEED);
    let mut encoded: Vec<Option<Vec<i32>>> = vec![None; texts.len()];
    let (mut tokens, mut short) = (Vec::new(), 0);
    for _ in 0..SLICES {
        let text = loop {
            if short == texts.len() {
                return Ok(Vec::new());
            }
            let index = random.below(texts.len() as u32) as usize;
            let new = encoded[index].is_none();
            let text = match encoded[index].take() {
                Some(text) => text,
                None => encode(&texts[index])?,
            };
            let long = text.len() > seq_len;
            short += usize::from(new && !long);
            let text = encoded[index].insert(text);
            // The reference cannot slice a text of just this length.
            if long {
                break text;
            }
        };
        let start = random.below((text.len() - seq_len) as u32) as usize;
        tokens.extend_from_slice(&text[start..start + seq_len]);
    }
    Ok(tokens)
}

/// The texts of a file: the field `text` of each line of a `.jsonl` file, or its lines, each with its end.
fn read_texts(path: &Path) -> Result<Vec<String>, Error> {
    if is_json_lines(path) {
        return Ok(read_json_lines(path)?);
    }
    let contents = std::fs::read_to_string(path).map_err(Error::read(path))?;
    // As Python reads lines, and with it the code of the literature.
    let contents = contents.replace("\r\n", "\n");
    let lines = contents.split_inclusive('\n');
    let row = |line: &str| match line.trim().is_empty() {
        true => String::new(),
        false => line.to_string(),
    };
    Ok(lines.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wiki.test.raw");
        std::fs::write(&path, " \n = A = \n \n Text\n").unwrap();
        assert_eq!(read_texts(&path).unwrap(), ["", " = A = \n", "", " Text\n"]);
        std::fs::write(&path, "A\r\n\r\nB").unwrap();
        assert_eq!(read_texts(&path).unwrap(), ["A\n", "", "B"]);
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, "{\"text\": \"\"}\n\n{\"text\": \"a\\n\"}\n").unwrap();
        assert_eq!(read_texts(&path).unwrap(), ["", "a\n"]);
        std::fs::write(&path, "{\"text\": \"\"}\n{\"txt\": \"a\"}\n").unwrap();
        let error = read_texts(&path).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl: line 2: "), "{error}");
    }

    #[test]
    fn slices_are_within_texts_that_are_long_enough() {
        let encode = |text: &str| Ok(text.bytes().map(i32::from).collect());
        let texts = ["abc", "abcdef", "uvwxyz0123", "abcd"].map(str::to_string);
        let tokens = slices(&texts, encode, 4).unwrap();
        assert_eq!(tokens.len(), SLICES * 4);
        for slice in tokens.chunks(4) {
            assert!(
                slice.windows(2).all(|pair| pair[1] == pair[0] + 1)
                    || slice.contains(&i32::from(b'0'))
            );
        }
        let begins: std::collections::BTreeSet<i32> = tokens.chunks(4).map(|s| s[0]).collect();
        assert!(
            begins.len() > 5 && begins.contains(&i32::from(b'b')),
            "{begins:?}"
        );
        assert!(slices(&texts, encode, 10).unwrap().is_empty());
    }
}
