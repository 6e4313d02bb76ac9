//! Loads Llamas from checkpoint directories, and saves them.

use crate::config::TIED;
use crate::error::Error;
use crate::model::{DecoderBlock, Llama};
use crate::rescue::save_or_rescue;
use crate::{LlamaConfig, TokenIds, chat};
use burn::module::Module;
use burn::tensor::{DType, Device};
use burn_eqat::ComputeType;
use burn_eqat::files::{
    Checkpoint, FileError, PackedSchemes, StagedDir, check_room, copy_side_files, expected_size,
    read_json, save_model_by_block,
};
use burn_eqat::kernels::supports;
use burn_eqat::lm::{BlockFiles, TokenWindows, encode_windows, load_tokenizer, read_documents};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// A model and the other contents of its directory.
pub struct LoadedLlama {
    /// The model.
    pub model: Llama,
    /// Its shape.
    pub config: LlamaConfig,
    /// The schemes of its packed weights; `None` if they are dense.
    pub schemes: Option<PackedSchemes>,
    /// The opened directory.
    pub checkpoint: Checkpoint,
    /// The EOS tokens of `config.json` and of `generation_config.json`.
    eos: Vec<u32>,
}

/// The float type of the embedding and of the output layer once they are loaded. Everything else is in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    /// f32: what is taken out of them is used as it is.
    #[default]
    F32,
    /// As the file has them: less memory, where they are not trained. In f32 where the device has not the type.
    AsStored,
}

impl Tables {
    /// What a device can have of tables that files have in a type.
    fn on(self, device: &Device, stored: DType) -> Self {
        match stored {
            DType::BF16 | DType::F16 if supports(device, stored) => self,
            _ => Tables::F32,
        }
    }
}

impl LoadedLlama {
    /// Loads a full-precision or packed directory, all of it in f32.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, `config.json` does not describe a Llama, or the tensors do not fit
    /// it.
    pub fn open(dir: &Path, device: &Device) -> Result<Self, Error> {
        Self::open_with(dir, device, Tables::F32)
    }

    /// As [`open`](Self::open), with the embedding and the output layer in a type.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(dir: &Path, device: &Device, tables: Tables) -> Result<Self, Error> {
        let (checkpoint, config) = describe(dir, tables, Some(device))?;
        let model = config.init(device);
        let schemes = checkpoint.schemes(&model)?;
        let tied = config.tie_word_embeddings;
        let model = checkpoint.load(model, |name| is_redundant(name, tied))?;
        Self::new(checkpoint, config, schemes, model)
    }

    /// Opens a directory whose blocks stay in its files. Each block is read when it is needed, and then dropped.
    /// All checks of the files are made here.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_by_block(dir: &Path, device: &Device) -> Result<Self, Error> {
        Self::open_by_block_with(dir, device, Tables::F32)
    }

    /// As [`open_by_block`](Self::open_by_block), with the embedding and the output layer in a type.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_by_block_with(dir: &Path, device: &Device, tables: Tables) -> Result<Self, Error> {
        let (checkpoint, config) = describe(dir, tables, Some(device))?;
        let schemes = checkpoint.schemes(&config.init(device))?;
        let (shape, on) = (config.clone(), device.clone());
        let block = move |index| DecoderBlock::new(&shape, index, &on);
        let blocks = config.num_hidden_layers;
        let files = BlockFiles::new(&checkpoint, "model.layers", blocks, block, |_| false)?;
        let tied = config.tie_word_embeddings;
        let shell = config.init_shell(device);
        let ignore = |name: &str| is_redundant(name, tied) || files.contains(name);
        let mut model = checkpoint.load(shell, ignore)?;
        model.files = Some(files);
        Self::new(checkpoint, config, schemes, model)
    }

    fn new(
        checkpoint: Checkpoint,
        config: LlamaConfig,
        schemes: Option<PackedSchemes>,
        model: Llama,
    ) -> Result<Self, Error> {
        Ok(Self {
            eos: eos_tokens(checkpoint.dir(), &config)?,
            model,
            config,
            schemes,
            checkpoint,
        })
    }

    /// The same model, whose activations and products are in this type.
    pub fn with_compute_type(mut self, compute: ComputeType) -> Self {
        self.model = self.model.with_compute_type(compute);
        self
    }

    /// The EOS tokens. Each of them ends a text.
    pub fn eos_tokens(&self) -> &[u32] {
        &self.eos
    }

    /// The template of conversations from `chat_template.jinja` or `tokenizer_config.json`, and the path of that
    /// file.
    ///
    /// # Errors
    ///
    /// When an existing file cannot be read.
    pub fn chat_template(&self) -> Result<Option<(PathBuf, String)>, Error> {
        chat::template(self.checkpoint.dir())
    }

    /// The tokenizer of the directory.
    ///
    /// # Errors
    ///
    /// When there is no tokenizer, it cannot be read, or it has more tokens than the model.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let tokenizer = load_tokenizer(self.checkpoint.dir())?;
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
    pub fn read_windows(&self, path: &Path, seq_len: usize) -> Result<TokenWindows, Error> {
        let documents = read_documents(path)?;
        let special = self.config.special_tokens();
        Ok(encode_windows(
            &self.tokenizer()?,
            &documents,
            special,
            seq_len,
        )?)
    }

    /// The float type of this model's files.
    pub fn dtype(&self) -> DType {
        float_type(self.checkpoint.config())
    }

    /// Saves a packed form of this model as a directory of the same kind.
    ///
    /// # Errors
    ///
    /// When a file cannot be written. The target is unchanged then.
    pub fn save_packed(&self, model: &Llama, target: &Path, force: bool) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        let config = self.checkpoint.config();
        save_model_by_block(model, config, self.dtype(), &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }

    /// Saves a packed form of this model like [`save_packed`](Self::save_packed). If that fails, saves it beside the
    /// target, at `<target>.rescued`, and then returns the error.
    ///
    /// # Errors
    ///
    /// As [`save_packed`](Self::save_packed); [`Error::Rescued`] says where the model is instead.
    pub fn save_packed_or_rescue(
        &self,
        model: &Llama,
        target: &Path,
        force: bool,
    ) -> Result<(), Error> {
        save_or_rescue(target, force, |target, force| {
            self.save_packed(model, target, force)
        })
    }

    /// Checks that a model can be saved at a target, before it is computed. `skeleton` is the model with packed
    /// weights, which need no data yet, and `copies` the number of copies on disk at a time.
    ///
    /// # Errors
    ///
    /// When the target cannot be written, or does not have enough space.
    pub fn check_room<M: Module>(
        &self,
        skeleton: &M,
        target: &Path,
        copies: u64,
    ) -> Result<(), Error> {
        let bytes = copies * expected_size(skeleton, self.dtype());
        Ok(check_room(target, bytes)?)
    }
}

/// The float type that a `config.json` says its files have.
pub fn float_type(config: &serde_json::Value) -> DType {
    let name = config.get("torch_dtype").or_else(|| config.get("dtype"));
    match name.and_then(|name| name.as_str()) {
        Some("bfloat16") => DType::BF16,
        Some("float16") => DType::F16,
        _ => DType::F32,
    }
}

/// The shape of a model whose weights need not be there, and the whole of its `config.json`.
///
/// # Errors
///
/// When it is missing or does not describe a Llama.
pub(crate) fn describe_config(dir: &Path) -> Result<(serde_json::Value, LlamaConfig), Error> {
    let path = dir.join("config.json");
    let contents: serde_json::Value = read_json(&path)?;
    let config: LlamaConfig = serde_json::from_value(contents.clone())
        .map_err(|error| FileError::invalid(&path, error))?;
    config
        .check()
        .map_err(|error| Error::Config { path, error })?;
    Ok((contents, config))
}

/// The headers of a directory's files, and the shape of its model; with a device, for what it can have.
pub(crate) fn describe(
    dir: &Path,
    tables: Tables,
    device: Option<&Device>,
) -> Result<(Checkpoint, LlamaConfig), Error> {
    let checkpoint = Checkpoint::open(dir)?;
    let path = dir.join("config.json");
    let mut config: LlamaConfig = serde_json::from_value(checkpoint.config().clone())
        .map_err(|error| FileError::invalid(&path, error))?;
    config
        .check()
        .map_err(|error| Error::Config { path, error })?;
    let mut checkpoint = checkpoint.with_naming(&config.naming());
    let stored = float_type(checkpoint.config());
    let tables = device.map_or(tables, |device| tables.on(device, stored));
    if tables == Tables::AsStored {
        checkpoint = checkpoint.with_stored_types(r"^(model\.embed_tokens|lm_head)\.weight$")?;
    }
    if !begins_texts(dir, &config)? {
        config.bos_token_id = None;
    }
    Ok((checkpoint, config))
}

/// Whether texts begin with the BOS token. A Qwen has one that it does not use.
fn begins_texts(dir: &Path, config: &LlamaConfig) -> Result<bool, Error> {
    #[derive(serde::Deserialize)]
    struct Tokenizing {
        #[serde(default)]
        add_bos_token: Option<bool>,
    }
    let path = dir.join("tokenizer_config.json");
    let said = if path.exists() {
        read_json::<Tokenizing>(&path)?.add_bos_token
    } else {
        None
    };
    Ok(said.unwrap_or_else(|| config.begins_texts()))
}

/// Whether a tensor is a second copy of the tied embedding.
fn is_redundant(name: &str, tied: bool) -> bool {
    let [_, head] = TIED;
    tied && name == head
}

/// The EOS tokens. Instruct models have more of them in `generation_config.json`.
fn eos_tokens(dir: &Path, config: &LlamaConfig) -> Result<Vec<u32>, Error> {
    #[derive(serde::Deserialize)]
    struct Generation {
        #[serde(default)]
        eos_token_id: Option<TokenIds>,
    }
    let mut eos = config.eos_tokens().to_vec();
    let path = dir.join("generation_config.json");
    if path.exists() {
        let generation: Generation = read_json(&path)?;
        eos.extend(generation.eos_token_id.iter().flat_map(TokenIds::ids));
    }
    Ok(eos)
}
