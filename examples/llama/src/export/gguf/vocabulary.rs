//! The tokenizer in GGUF's metadata, from `tokenizer.json`.

use super::GgufError;
use super::file::{File, Value};
use crate::error::Error;
use crate::load::LoadedLlama;
use burn_eqat::files::{FileError, read_json};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// The used parts of `tokenizer.json`.
#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pre_tokenizer: serde_json::Value,
}

#[derive(Deserialize)]
struct Model {
    vocab: BTreeMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    byte_fallback: bool,
}

/// A merge, in the form of newer or older files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Merge {
    fn pair(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Pair(left, right) => Some((left, right)),
            Merge::Text(text) => text.split_once(' '),
        }
    }
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
    #[serde(default)]
    special: bool,
}

/// The format's numbers for kinds of tokens.
mod kind {
    pub const NORMAL: i32 = 1;
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const UNUSED: i32 = 5;
    pub const BYTE: i32 = 6;
}

/// Adds the tokenizer of the model's directory.
pub(super) fn add(loaded: &LoadedLlama, file: &mut File) -> Result<(), Error> {
    // Read as a tokenizer first: that names what is wrong with it, and knows what ids tokens have.
    let tokenizer = loaded.tokenizer()?;
    let path = loaded.checkpoint.dir().join("tokenizer.json");
    let value: serde_json::Value = read_json(&path)?;
    let kind = value["model"]["type"].as_str().unwrap_or("BPE");
    if kind != "BPE" {
        let found = format!("a model of type {kind}");
        let expected = "BPE";
        return Err(GgufError::Tokenizer { found, expected }.into());
    }
    let read: TokenizerFile =
        serde_json::from_value(value).map_err(|error| FileError::invalid(&path, error))?;
    let mut tokens: Vec<String> = (0..loaded.config.vocab_size)
        .map(|id| format!("[PAD{id}]"))
        .collect();
    let mut kinds = vec![kind::UNUSED; tokens.len()];
    for token in read.model.vocab.keys() {
        let Some(at) = tokenizer.token_to_id(token).map(|id| id as usize) else {
            continue;
        };
        tokens[at].clone_from(token);
        kinds[at] = match token.as_str() {
            "<unk>" => kind::UNKNOWN,
            token if read.model.byte_fallback && is_byte(token) => kind::BYTE,
            _ => kind::NORMAL,
        };
    }
    for token in &read.added_tokens {
        let Some(at) = tokenizer.token_to_id(&token.content).map(|id| id as usize) else {
            continue;
        };
        let unknown = token.content == "<unk>";
        tokens[at].clone_from(&token.content);
        kinds[at] = match (unknown, token.special) {
            (true, _) => kind::UNKNOWN,
            (false, true) => kind::CONTROL,
            (false, false) => kind::USER_DEFINED,
        };
    }
    if read.model.byte_fallback {
        sentence_pieces(&read, &tokens, file);
    } else {
        byte_pairs(&read, file)?;
    }
    let config = &loaded.config;
    file.set("tokenizer.ggml.tokens", Value::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    let ids = [
        ("bos_token_id", config.bos_token_id),
        ("eos_token_id", config.eos_token()),
    ];
    for (key, id) in ids {
        if let Some(id) = id {
            file.set(&format!("tokenizer.ggml.{key}"), Value::U32(id));
        }
    }
    // As texts are begun here.
    let begin = config.bos_token_id.is_some();
    file.set("tokenizer.ggml.add_bos_token", Value::Bool(begin));
    file.set("tokenizer.ggml.add_eos_token", Value::Bool(false));
    if let Some((_, template)) = loaded.chat_template()? {
        file.set("tokenizer.chat_template", Value::Text(template));
    }
    Ok(())
}

/// Whether a token is a byte, such as `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|digits| u8::from_str_radix(digits, 16).is_ok())
}

/// A vocabulary with byte fallback. Tokens merge by their scores, which follow the order of the merges.
fn sentence_pieces(read: &TokenizerFile, tokens: &[String], file: &mut File) {
    let mut ranks = HashMap::new();
    for (rank, merge) in read.model.merges.iter().enumerate() {
        if let Some((left, right)) = merge.pair() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
        }
    }
    let last = ranks.len();
    let score = |token: &String| match ranks.get(token) {
        Some(rank) => -(*rank as f32),
        // Never merged to: single characters, bytes, special tokens.
        None if token.chars().count() == 1 => -(last as f32),
        None => 0.0,
    };
    let scores = tokens.iter().map(score).collect();
    file.set("tokenizer.ggml.model", Value::text("llama"));
    file.set("tokenizer.ggml.pre", Value::text("default"));
    file.set("tokenizer.ggml.scores", Value::F32s(scores));
    if let Some(at) = tokens.iter().position(|token| token == "<unk>") {
        file.set("tokenizer.ggml.unknown_token_id", Value::U32(at as u32));
    }
}

/// A byte-level vocabulary, with llama.cpp's name of its pre-tokenizer.
fn byte_pairs(read: &TokenizerFile, file: &mut File) -> Result<(), Error> {
    let cut = read.pre_tokenizer.to_string();
    let name = if !cut.contains("ByteLevel") {
        None
    } else if cut.contains(r"\\p{N}{1,3}") {
        Some("llama-bpe")
    } else if cut.contains(r"\\p{N}|") {
        Some("qwen2")
    } else if cut.contains("Digits") {
        Some("smollm")
    } else if !cut.contains("Split") {
        Some("gpt-2")
    } else {
        None
    };
    let Some(name) = name else {
        let found = format!("words are cut by {cut}");
        let expected = "the way of GPT-2, Llama 3, Qwen2 or SmolLM";
        return Err(GgufError::Tokenizer { found, expected }.into());
    };
    let merges = read.model.merges.iter().filter_map(Merge::pair);
    let merges = merges
        .map(|(left, right)| format!("{left} {right}"))
        .collect();
    file.set("tokenizer.ggml.model", Value::text("gpt2"));
    file.set("tokenizer.ggml.pre", Value::text(name));
    file.set("tokenizer.ggml.merges", Value::Texts(merges));
    Ok(())
}
