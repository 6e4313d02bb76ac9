//! Llamas from checkpoint directories, and back.

use crate::error::Error;
use crate::model::Llama;
use crate::{LlamaConfig, TokenIds, chat, text};
use burn::tensor::{DType, Device};
use burn_eqat::Scheme;
use burn_eqat::files::{Checkpoint, FileError, StagedDir, copy_side_files, read_json, save_model};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// A model with what its directory holds besides.
pub struct LoadedLlama {
    /// The model.
    pub model: Llama,
    /// Its shape.
    pub config: LlamaConfig,
    /// The scheme of its packed weights; `None` where they are dense.
    pub scheme: Option<Scheme>,
    /// The opened directory.
    pub checkpoint: Checkpoint,
    /// Tokens that end a text, of `config.json` and of `generation_config.json`.
    ends: Vec<u32>,
}

impl LoadedLlama {
    /// Loads a full-precision or packed directory.
    ///
    /// # Errors
    ///
    /// When a file is missing or broken, `config.json` describes no Llama, or the tensors are not
    /// those that it describes.
    pub fn open(dir: &Path, device: &Device) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(dir)?;
        let path = dir.join("config.json");
        let config: LlamaConfig = serde_json::from_value(checkpoint.config().clone())
            .map_err(|error| FileError::invalid(&path, error))?;
        config
            .check()
            .map_err(|error| Error::Config { path, error })?;
        let model = config.init(device);
        let scheme = checkpoint.scheme(&model)?.map(|(scheme, _)| scheme);
        let tied = config.tie_word_embeddings;
        // Some writers store what can be computed, or the tied embedding twice.
        let ignore = |name: &str| {
            name.ends_with("rotary_emb.inv_freq") || (tied && name == "lm_head.weight")
        };
        let model = checkpoint.load(model, ignore)?;
        let ends = end_tokens(dir, &config)?;
        Ok(Self {
            model,
            config,
            scheme,
            checkpoint,
            ends,
        })
    }

    /// Whether a token ends a text.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The template of conversations, as `chat_template.jinja` or `tokenizer_config.json` has it.
    ///
    /// # Errors
    ///
    /// When a file that is there cannot be read.
    pub fn chat_template(&self) -> Result<Option<String>, Error> {
        chat::template(self.checkpoint.dir())
    }

    /// The tokenizer of the directory.
    ///
    /// # Errors
    ///
    /// When there is none, it cannot be read, or it has more tokens than the model.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let tokenizer = self.checkpoint.tokenizer()?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= self.config.vocab_size {
            let path: PathBuf = self.checkpoint.dir().join("tokenizer.json");
            let vocab_size = self.config.vocab_size;
            let message =
                format!("has a token of id {largest}, expected less than the model's {vocab_size}");
            return Err(FileError::invalid(&path, message).into());
        }
        Ok(tokenizer)
    }

    /// Windows of text in this model's tokens.
    ///
    /// # Errors
    ///
    /// As [`tokenizer`](Self::tokenizer), or when the text file cannot be read.
    pub fn read_windows(&self, path: &Path, seq_len: usize) -> Result<text::TokenWindows, Error> {
        let documents = text::read_documents(path)?;
        text::encode_windows(&self.tokenizer()?, &documents, &self.config, seq_len)
    }

    /// The float type that the files of this model are in.
    pub fn dtype(&self) -> DType {
        let config = self.checkpoint.config();
        let name = config.get("torch_dtype").or_else(|| config.get("dtype"));
        match name.and_then(|name| name.as_str()) {
            Some("bfloat16") => DType::BF16,
            Some("float16") => DType::F16,
            _ => DType::F32,
        }
    }

    /// Saves a packed form of this model as a directory of the same kind.
    ///
    /// # Errors
    ///
    /// When a file cannot be written; nothing is at the target then that was not there before.
    pub fn save_packed(
        &self,
        model: &Llama,
        scheme: Scheme,
        target: &Path,
        force: bool,
    ) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        let config = self.checkpoint.config();
        save_model(model, config, Some(scheme), self.dtype(), &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }
}

/// Tokens that end a text: instruct models say more of them in `generation_config.json`.
fn end_tokens(dir: &Path, config: &LlamaConfig) -> Result<Vec<u32>, Error> {
    #[derive(serde::Deserialize)]
    struct Generation {
        #[serde(default)]
        eos_token_id: Option<TokenIds>,
    }
    let mut ends = config.end_tokens().to_vec();
    let path = dir.join("generation_config.json");
    if path.exists() {
        let generation: Generation = read_json(&path)?;
        ends.extend(generation.eos_token_id.iter().flat_map(TokenIds::ids));
    }
    Ok(ends)
}
