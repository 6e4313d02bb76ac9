//! Loads multimodal models from checkpoint directories, and saves them.

use crate::config::{MultimodalConfig, Tower};
use crate::conversation::Conversations;
use crate::error::Error;
use crate::model::{AnswerLimits, Multimodal};
use crate::naming::{DECODER_HEAD, naming};
use crate::processor::Processor;
use burn::tensor::{DType, Device};
use burn_eqat::files::{
    Checkpoint, FileError, PackedSchemes, StagedDir, copy_side_files, export_dense, export_gptq,
    read_json, save_model_by_block,
};
use burn_eqat::lm::{BlockFiles, load_tokenizer};
use llama::chat::ChatTemplate;
use llama::float_type;
use llama::model::DecoderBlock;
use serde_json::Value;
use std::path::Path;

/// A model and the other contents of its directory.
pub struct LoadedMultimodal {
    /// The model.
    pub model: Multimodal,
    /// Its shape.
    pub config: MultimodalConfig,
    /// The schemes of its packed weights; `None` if they are dense.
    pub schemes: Option<PackedSchemes>,
    /// The opened directory.
    pub checkpoint: Checkpoint,
}

impl LoadedMultimodal {
    /// Loads a full-precision or packed directory, all of it in f32.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, `config.json` does not describe a model, or the tensors do not fit it.
    pub fn open(dir: &Path, device: &Device) -> Result<Self, Error> {
        let (checkpoint, config) = describe(dir)?;
        let model = config.init(device).map_err(Error::config(dir))?;
        let schemes = checkpoint.schemes(&model)?;
        let tied = config.text_config.tie_word_embeddings;
        let model = checkpoint.load(model, |name| tied && name == DECODER_HEAD)?;
        Ok(Self {
            model,
            config,
            schemes,
            checkpoint,
        })
    }

    /// Opens a directory, of which the decoder's blocks stay in its files. Each is read when it is needed, and then dropped.
    /// All checks of the files are made here.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_by_block(dir: &Path, device: &Device) -> Result<Self, Error> {
        let (checkpoint, config) = describe(dir)?;
        let outline = config.init(device).map_err(Error::config(dir))?;
        let schemes = checkpoint.schemes(&outline)?;
        let (shape, on) = (config.text_config.clone(), device.clone());
        let block = move |index| DecoderBlock::new(&shape, index, &on);
        let (path, blocks) = (
            "language_model.model.layers",
            config.text_config.num_hidden_layers,
        );
        let files = BlockFiles::new(&checkpoint, path, blocks, block, |_| false)?;
        let tied = config.text_config.tie_word_embeddings;
        let decoder = config.text_config.init_shell(device);
        let shell = config
            .init_around(decoder, device)
            .map_err(Error::config(dir))?;
        let ignore = |name: &str| (tied && name == DECODER_HEAD) || files.contains(name);
        let mut model = checkpoint.load(shell, ignore)?;
        model.language_model.files = Some(files);
        Ok(Self {
            model,
            config,
            schemes,
            checkpoint,
        })
    }

    /// The float type of this model's files.
    pub fn dtype(&self) -> DType {
        float_type(self.checkpoint.config())
    }

    /// How its images or sounds are prepared.
    ///
    /// # Errors
    ///
    /// When the file is missing, or does not fit the model.
    pub fn processor(&self) -> Result<Processor, Error> {
        Processor::open(self.checkpoint.dir(), &self.config)
    }

    /// What its conversations are made of.
    ///
    /// # Errors
    ///
    /// When the tokenizer or the template is missing or cannot be read, or there are more tokens than the model has.
    pub fn conversations(&self) -> Result<Conversations, Error> {
        let dir = self.checkpoint.dir();
        let tokenizer = load_tokenizer(dir)?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        let vocab_size = self.config.text_config.vocab_size;
        if largest as usize >= vocab_size {
            let path = dir.join("tokenizer.json");
            let message =
                format!("has a token of id {largest}, expected less than the model's {vocab_size}");
            return Err(FileError::invalid(&path, message).into());
        }
        let wrong = || Error::config(dir);
        Ok(Conversations {
            tokenizer,
            template: ChatTemplate::open(dir)?,
            kind: match self.config.tower().map_err(wrong())? {
                Tower::Vision(_) => "image",
                Tower::Audio(_) => "audio",
            },
            media_token: self.config.media_token().map_err(wrong())?,
            features: self.config.features().map_err(wrong())?,
            bos: self.config.text_config.bos_token_id,
            eos: self.config.text_config.eos_token(),
        })
    }

    /// Where its answers end.
    pub fn limits(&self, max_new_tokens: usize) -> AnswerLimits {
        AnswerLimits {
            max_new_tokens,
            max_positions: self.config.text_config.positions(),
            eos: self.config.text_config.eos_tokens().to_vec(),
        }
    }

    /// Saves a packed form of this model as a directory of the same kind.
    ///
    /// # Errors
    ///
    /// When a file cannot be written. The target is unchanged then.
    pub fn save_packed(&self, model: &Multimodal, target: &Path, force: bool) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        save_model_by_block(model, self.checkpoint.config(), self.dtype(), &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }

    /// Writes the packed decoder alone as a GPTQ directory, version 2: a Llama as any other, to which the tower's features
    /// are given as embeddings.
    ///
    /// # Errors
    ///
    /// When the decoder is not packed, GPTQ cannot store it, or a file cannot be written. The target is unchanged then.
    pub fn export_decoder_gptq(&self, target: &Path, force: bool) -> Result<(), Error> {
        self.export_decoder(target, force, |config, staged| {
            export_gptq(&self.model.language_model, config, self.dtype(), staged)
        })
    }

    /// Writes the decoder alone as a dense directory.
    ///
    /// # Errors
    ///
    /// When a file cannot be written. The target is unchanged then.
    pub fn export_decoder_dense(&self, target: &Path, force: bool) -> Result<(), Error> {
        self.export_decoder(target, force, |config, staged| {
            export_dense(&self.model.language_model, config, self.dtype(), staged)
        })
    }

    fn export_decoder(
        &self,
        target: &Path,
        force: bool,
        write: impl FnOnce(&Value, &StagedDir) -> Result<(), FileError>,
    ) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        let config = serde_json::to_value(&self.config.text_config);
        let mut config = config.expect("it was read from such a value");
        config["architectures"] = serde_json::json!(["LlamaForCausalLM"]);
        for name in ["torch_dtype", "dtype"] {
            if let Some(dtype) = self.checkpoint.config().get(name) {
                config[name] = dtype.clone();
            }
        }
        write(&config, &staged)?;
        copy_side_files(self.checkpoint.dir(), staged.path())?;
        Ok(staged.commit()?)
    }
}

/// The headers of a directory's files, and the shape of its model.
fn describe(dir: &Path) -> Result<(Checkpoint, MultimodalConfig), Error> {
    let checkpoint = Checkpoint::open(dir)?;
    let config = read_config(dir)?;
    let tied = config.text_config.tie_word_embeddings;
    Ok((checkpoint.with_naming(&naming(tied)), config))
}

/// The shape of a directory's model.
///
/// # Errors
///
/// When `config.json` is missing, or does not describe a model.
pub fn read_config(dir: &Path) -> Result<MultimodalConfig, Error> {
    let path = dir.join("config.json");
    let config: MultimodalConfig = read_json(&path)?;
    config.check().map_err(Error::config(&path))?;
    Ok(config)
}
