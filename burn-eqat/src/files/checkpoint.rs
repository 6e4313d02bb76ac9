use super::directory::locate_all;
use super::entry::read_entry;
use super::error::FileError;
use super::gptq::read_gptq;
use super::json::read_json;
use super::layout::{Slot, packed_name, slots};
use super::load::{LoadedFloats, Source};
use super::naming::Naming;
use super::quantization::Quantization;
use super::schemes::PackedSchemes;
use super::stored::{Format, Shapes, Stored};
use super::tensor_file::Located;
use crate::pattern::Pattern;
use crate::{QuantizeError, Scheme};
use burn::module::Module;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An open checkpoint directory. Its configuration is read and the headers of its files are checked.
/// Tensor data stays in the files until a module is loaded, and files are open only for that time.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_eqat::files::Checkpoint;
/// # use burn::tensor::DType;
/// # use burn_eqat::files::{StagedDir, save_model};
/// # use burn_eqat::{Quantize, Scheme, Weights};
/// # use serde_json::json;
///
/// let device = Device::flex();
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("model");
/// # let staged = StagedDir::begin(&dir, false)?;
/// # let saved: Linear = LinearConfig::new(64, 32).init(&device);
/// # let scheme: Scheme = "w4g32".parse()?;
/// # save_model(&saved, &json!({"model_type": "linear"}), DType::F32, &staged)?;
/// # staged.commit()?;
/// let checkpoint = Checkpoint::open(&dir)?;
/// assert_eq!(checkpoint.config()["model_type"], "linear");
/// assert!(checkpoint.has_tensor("weight") && checkpoint.has_tensor("bias"));
/// let layer: Linear = checkpoint.load(LinearConfig::new(64, 32).init(&device), |_| false)?;
/// # assert_eq!(layer.weight.val().into_data(), saved.weight.val().into_data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: Value,
    tensors: BTreeMap<String, Located>,
    /// The parameters that keep the float type of the files.
    stored_types: Vec<Pattern>,
}

impl Checkpoint {
    /// Opens a directory with a `config.json` and weights. The weights are in `model.safetensors`, or in the files of
    /// `model.safetensors.index.json`. If there is neither, and with the cargo feature `pytorch`, they are in
    /// `pytorch_model.bin`, or in the files of its index.
    ///
    /// # Errors
    ///
    /// When a file is missing, truncated or not of the format that its name says.
    pub fn open(dir: &Path) -> Result<Self, FileError> {
        Ok(Self {
            dir: dir.to_path_buf(),
            config: read_json(&dir.join("config.json"))?,
            tensors: locate_all(dir)?,
            stored_types: Vec::new(),
        })
    }

    /// The same checkpoint, with its tensors under the names that a module expects.
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::files::{Checkpoint, Naming};
    /// # use burn::tensor::DType;
    /// # use burn_eqat::files::{StagedDir, save_model};
    /// # use burn_eqat::{Quantize, Scheme, Weights};
    /// # use serde_json::json;
    ///
    /// let device = Device::flex();
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("model");
    /// # let staged = StagedDir::begin(&dir, false)?;
    /// # let saved: Linear = LinearConfig::new(64, 32).init(&device);
    /// # let scheme: Scheme = "w4g32".parse()?;
    /// # save_model(&saved, &json!({"model_type": "linear"}), DType::F32, &staged)?;
    /// # staged.commit()?;
    /// // The layer is the field `head` of the module, and the whole of the files.
    /// #[derive(Module, Debug)]
    /// struct Model {
    ///     head: Linear,
    /// }
    ///
    /// let naming = Naming::new().with_optional_prefix("head.", &[]);
    /// let checkpoint = Checkpoint::open(&dir)?.with_naming(&naming);
    /// assert!(checkpoint.has_tensor("head.weight"));
    /// let model = Model { head: LinearConfig::new(64, 32).init(&device) };
    /// let model = checkpoint.load(model, |_| false)?;
    /// # assert_eq!(model.head.weight.val().into_data(), saved.weight.val().into_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_naming(mut self, naming: &Naming) -> Self {
        self.tensors = naming.apply(self.tensors);
        self
    }

    /// The same checkpoint, from which the parameters whose paths match a regular expression are loaded in the float type of the
    /// files. Others are loaded in f32, the type to train in. May be repeated. It is for large tables that stay as they are, such
    /// as embeddings, in a model that casts what it takes out of them.
    ///
    /// Step sizes of packed weights are in f32 all the same.
    ///
    /// ```
    /// use burn::nn::{Embedding, EmbeddingConfig};
    /// use burn::tensor::{DType, Device};
    /// use burn_eqat::files::Checkpoint;
    /// # use burn_eqat::files::{StagedDir, save_model};
    /// # use serde_json::json;
    ///
    /// let device = Device::flex();
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("model");
    /// # let staged = StagedDir::begin(&dir, false)?;
    /// # let mut saved: Embedding = EmbeddingConfig::new(10, 4).init(&device);
    /// # saved.weight = saved.weight.map(|table| table.cast(burn::tensor::FloatDType::BF16));
    /// # save_model(&saved, &json!({}), DType::BF16, &staged)?;
    /// # staged.commit()?;
    /// // The table of the files is in bf16.
    /// let checkpoint = Checkpoint::open(&dir)?.with_stored_types("^weight$")?;
    /// let table: Embedding = checkpoint.load(EmbeddingConfig::new(10, 4).init(&device), |_| false)?;
    /// assert_eq!(table.weight.val().dtype(), DType::BF16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the pattern is not a valid regular expression.
    pub fn with_stored_types(mut self, pattern: &str) -> Result<Self, QuantizeError> {
        self.stored_types.push(Pattern::new(pattern)?);
        Ok(self)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The contents of `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Whether there is a tensor with this name.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        let bytes = |tensor: &Located| tensor.shape.num_elements() * tensor.dtype.size();
        self.tensors.values().map(bytes).sum()
    }

    /// The scheme and the format of a packed checkpoint; `None` for a full-precision one. If weights have
    /// different schemes, this is the scheme of all weights without an override.
    ///
    /// `module` is the module to load into. If no file has a scheme, as with the EfficientQAT reference, it
    /// follows from the shapes of the module's weights.
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::files::{Checkpoint, Format};
    /// # use burn::tensor::DType;
    /// # use burn_eqat::files::{StagedDir, save_model};
    /// # use burn_eqat::{Quantize, Scheme, Weights};
    /// # use serde_json::json;
    ///
    /// let device = Device::flex();
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("model");
    /// # let staged = StagedDir::begin(&dir, false)?;
    /// # let saved: Linear = LinearConfig::new(64, 32).init(&device);
    /// # let scheme: Scheme = "w4g32".parse()?;
    /// # save_model(&saved.quantize_rtn(&Weights::linears(), scheme)?, &json!({"model_type": "linear"}), DType::F32, &staged)?;
    /// # staged.commit()?;
    /// let checkpoint = Checkpoint::open(&dir)?;
    /// let module: Linear = LinearConfig::new(64, 32).init(&device);
    /// let (scheme, format) = checkpoint.scheme(&module)?.expect("it is packed");
    /// assert_eq!((scheme.to_string(), format), ("w4g32".to_string(), Format::BurnEqat));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the quantization entry of `config.json` (or a `quantize_config.json` in its place) has an unknown
    /// format, or no scheme fits the shapes.
    pub fn scheme<M: Module>(&self, module: &M) -> Result<Option<(Scheme, Format)>, FileError> {
        let found = self.quantization(module, "")?;
        Ok(found.map(|found| (found.scheme, found.format)))
    }

    /// The schemes of all packed weights of a checkpoint; `None` where none is packed. `module` is what it is to be loaded
    /// into, all of it and without data, as for [`scheme`](Self::scheme).
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::files::Checkpoint;
    /// # use burn::tensor::DType;
    /// # use burn_eqat::files::{StagedDir, save_model};
    /// # use burn_eqat::{Quantize, Scheme, Weights};
    /// # use serde_json::json;
    ///
    /// let device = Device::flex();
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("model");
    /// # let staged = StagedDir::begin(&dir, false)?;
    /// # let saved: Linear = LinearConfig::new(64, 32).init(&device);
    /// # let scheme: Scheme = "w4g32".parse()?;
    /// # save_model(&saved.quantize_rtn(&Weights::linears(), scheme)?, &json!({"model_type": "linear"}), DType::F32, &staged)?;
    /// # staged.commit()?;
    /// let checkpoint = Checkpoint::open(&dir)?;
    /// let module: Linear = LinearConfig::new(64, 32).init(&device);
    /// let schemes = checkpoint.schemes(&module)?.expect("it is packed");
    /// assert!(schemes.overrides.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`scheme`](Self::scheme), and when the scheme of a weight does not fit it.
    pub fn schemes<M: Module>(&self, module: &M) -> Result<Option<PackedSchemes>, FileError> {
        Ok(PackedSchemes::of_weights(
            self.source(module, "")?.schemes(module)?,
        ))
    }

    fn quantization<M: Module>(
        &self,
        module: &M,
        prefix: &str,
    ) -> Result<Option<Quantization>, FileError> {
        let path = self.dir.join("config.json");
        let entry = self.config.get("quantization_config");
        if let Some(entry) = entry.filter(|entry| !entry.is_null()) {
            let wrong =
                |message| FileError::invalid(&path, format!("quantization_config.{message}"));
            return read_entry(entry).map(Some).map_err(wrong);
        }
        if !self.tensors.keys().any(|name| name.ends_with(".qweight")) {
            return Ok(None);
        }
        // Older GPTQ checkpoints have it in a separate file.
        let path = self.dir.join("quantize_config.json");
        if path.exists() {
            let entry: Value = read_json(&path)?;
            let wrong = |message: String| FileError::invalid(&path, message);
            let read = match entry.get("quant_method") {
                None | Some(Value::Null) => read_gptq(&entry),
                Some(_) => read_entry(&entry),
            };
            return read.map(Some).map_err(wrong);
        }
        self.guess(&slots(module), prefix)
    }

    /// The scheme of a checkpoint without a quantization entry, from the shapes of a module's packed weights;
    /// `None` if nothing is packed.
    fn guess(&self, slots: &[Slot], prefix: &str) -> Result<Option<Quantization>, FileError> {
        let side = |path: &str, part: &str, at: usize| {
            let tensor = self.tensors.get(&packed_name(path, part))?;
            Some(*tensor.shape.get(at)?)
        };
        let shapes = |slot: &Slot| {
            let path = format!("{prefix}{}", slot.path);
            Some(Shapes {
                dense: slot.dense_shape()?,
                code_rows: side(&path, "qweight", 0)?,
                zero_columns: side(&path, "qzeros", 1)?,
                groups: side(&path, "scales", 0)?,
            })
        };
        let packed = slots.iter().filter_map(|slot| Some((slot, shapes(slot)?)));
        let (names, shapes): (Vec<_>, Vec<_>) = packed.map(|(slot, s)| (&slot.name, s)).unzip();
        let (Some(name), Some(first)) = (names.first(), shapes.first()) else {
            return Ok(None);
        };
        match Stored::from_shapes(&shapes) {
            Some(stored) => Ok(Some(Quantization::uniform(stored))),
            None => {
                let message = format!(
                    "there is no quantization_config, and no single scheme fits the shapes of all packed weights \
                     (this one has {} rows of words and {} rows of scales for {} inputs)",
                    first.code_rows, first.groups, first.dense[0]
                );
                Err(FileError::tensor(
                    &self.dir,
                    &format!("{prefix}{name}"),
                    message,
                ))
            }
        }
    }

    /// Loads a module. Weights that are packed in the files become packed weights, the others dense ones.
    ///
    /// `ignore` says which tensors of the files need no parameter in the module.
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::Quantize;
    /// use burn_eqat::files::Checkpoint;
    /// # use burn::tensor::DType;
    /// # use burn_eqat::files::{StagedDir, save_model};
    /// # use burn_eqat::{Scheme, Weights};
    /// # use serde_json::json;
    ///
    /// let device = Device::flex();
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("model");
    /// # let staged = StagedDir::begin(&dir, false)?;
    /// # let saved: Linear = LinearConfig::new(64, 32).init(&device);
    /// # let scheme: Scheme = "w4g32".parse()?;
    /// # save_model(&saved.quantize_rtn(&Weights::linears(), scheme)?, &json!({"model_type": "linear"}), DType::F32, &staged)?;
    /// # staged.commit()?;
    /// let checkpoint = Checkpoint::open(&dir)?;
    /// // Tensors that the module has no use for are ignored.
    /// let ignore = |name: &str| name.ends_with("inv_freq");
    /// let layer: Linear = checkpoint.load(LinearConfig::new(64, 32).init(&device), ignore)?;
    /// assert_eq!(layer.size_report().packed_weights, 64 * 32);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a tensor is missing, unexpected, of another shape or type, or cannot be read.
    pub fn load<M: Module>(
        &self,
        module: M,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<M, FileError> {
        self.load_part(module, "", ignore)
    }

    /// Loads a part of a model: the tensors whose names begin with `prefix`, such as `model.layers.3.`. See
    /// [`load`](Self::load). Opens only the files with these tensors, and only for that time.
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::files::Checkpoint;
    /// # use burn::module::Module;
    /// # use burn::tensor::DType;
    /// # use burn_eqat::files::{StagedDir, save_model};
    /// # use serde_json::json;
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { layers: Vec<Linear> }
    ///
    /// let device = Device::flex();
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("model");
    /// # let saved = Mlp { layers: (0..3).map(|_| LinearConfig::new(8, 8).init(&device)).collect() };
    /// # let staged = StagedDir::begin(&dir, false)?;
    /// # save_model(&saved, &json!({}), DType::F32, &staged)?;
    /// # staged.commit()?;
    /// let checkpoint = Checkpoint::open(&dir)?;
    /// let layer: Linear = LinearConfig::new(8, 8).init(&device);
    /// // `layers.1.weight` and `layers.1.bias`.
    /// let layer = checkpoint.load_part(layer, "layers.1.", |_| false)?;
    /// # assert_eq!(layer.weight.val().into_data(), saved.layers[1].weight.val().into_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_part<M: Module>(
        &self,
        module: M,
        prefix: &str,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<M, FileError> {
        self.source(&module, prefix)?.load(module, ignore)
    }

    /// Checks that [`load_part`](Self::load_part) will find its tensors, without reading their data.
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::files::Checkpoint;
    /// # use burn::module::Module;
    /// # use burn::tensor::DType;
    /// # use burn_eqat::files::{StagedDir, save_model};
    /// # use serde_json::json;
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { layers: Vec<Linear> }
    ///
    /// let device = Device::flex();
    /// # let parent = tempfile::tempdir()?;
    /// # let dir = parent.path().join("model");
    /// # let saved = Mlp { layers: (0..3).map(|_| LinearConfig::new(8, 8).init(&device)).collect() };
    /// # let staged = StagedDir::begin(&dir, false)?;
    /// # save_model(&saved, &json!({}), DType::F32, &staged)?;
    /// # staged.commit()?;
    /// let checkpoint = Checkpoint::open(&dir)?;
    /// let layer: Linear = LinearConfig::new(8, 8).init(&device);
    /// checkpoint.check_part(layer.clone(), "layers.2.", |_| false)?;
    /// // There are three.
    /// assert!(checkpoint.check_part(layer, "layers.3.", |_| false).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a tensor is missing, unexpected, or of another shape or type.
    pub fn check_part<M: Module>(
        &self,
        module: M,
        prefix: &str,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<(), FileError> {
        let source = self.source(&module, prefix)?;
        source.ready(module, ignore).map(drop)
    }

    fn source<'a, M: Module>(
        &'a self,
        module: &M,
        prefix: &'a str,
    ) -> Result<Source<'a>, FileError> {
        Ok(Source {
            path: &self.dir,
            tensors: &self.tensors,
            quantization: self.quantization(module, prefix)?,
            floats: LoadedFloats::F32Except(&self.stored_types),
            prefix,
            inside: &|_| true,
        })
    }
}
