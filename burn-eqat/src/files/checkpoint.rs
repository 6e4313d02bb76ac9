use super::FileError;
use super::layout::{Role, Slot, packed_paths, slots};
use crate::{Quantize, Scheme};
use burn::module::{Module, ParamGroup};
use burn::store::{ModuleSnapshot, ModuleStore, SafetensorsStore, bridge};
use burn::tensor::{DType, Shape, TensorData};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// A tensor that is read from its file when its data is asked for.
type FileTensor = burn::store::burn_pack::Tensor;

/// A checkpoint directory that has been opened: its configuration is read and the headers of its
/// safetensors files are checked; tensor data stays in the files.
pub struct Checkpoint {
    dir: PathBuf,
    config: Value,
    tensors: BTreeMap<String, FileTensor>,
}

/// Reads a JSON file.
///
/// # Errors
///
/// When the file cannot be read or does not hold what is asked for.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let text = fs::read_to_string(path).map_err(FileError::io(path))?;
    serde_json::from_str(&text).map_err(|error| FileError::invalid(path, error))
}

impl Checkpoint {
    /// Opens a directory with a `config.json` and `model.safetensors`, or the files that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// When a file is missing, truncated or not what its name says.
    pub fn open(dir: &Path) -> Result<Self, FileError> {
        let config: Value = read_json(&dir.join("config.json"))?;
        let index = dir.join("model.safetensors.index.json");
        let tensors = match index.exists() {
            true => open_shards(dir, &index)?,
            false => open_file(&dir.join("model.safetensors"))?,
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            config,
            tensors,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `config.json` holds.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The scheme of a packed checkpoint; `None` for a full-precision one.
    ///
    /// # Errors
    ///
    /// When the quantization entry of `config.json` is not one of ours.
    pub fn scheme(&self) -> Result<Option<Scheme>, FileError> {
        let path = self.dir.join("config.json");
        let Some(entry) = self
            .config
            .get("quantization_config")
            .filter(|entry| !entry.is_null())
        else {
            return Ok(None);
        };
        let method = entry.get("quant_method").and_then(Value::as_str);
        if method != Some(super::save::QUANT_METHOD) {
            let message = format!(
                "quantization_config.quant_method is {}, expected {:?}",
                entry.get("quant_method").unwrap_or(&Value::Null),
                super::save::QUANT_METHOD
            );
            return Err(FileError::invalid(&path, message));
        }
        let scheme = entry.get("scheme").and_then(Value::as_str).unwrap_or("");
        let scheme = scheme.parse().map_err(|error| {
            FileError::invalid(&path, format!("quantization_config.scheme: {error}"))
        })?;
        Ok(Some(scheme))
    }

    /// The tokenizer of the directory.
    ///
    /// # Errors
    ///
    /// When `tokenizer.json` is missing or cannot be read.
    pub fn tokenizer(&self) -> Result<Tokenizer, FileError> {
        let path = self.dir.join("tokenizer.json");
        let bytes = fs::read(&path).map_err(FileError::io(&path))?;
        let mut tokenizer =
            Tokenizer::from_bytes(bytes).map_err(|error| FileError::invalid(&path, error))?;
        // Some files carry the truncation and padding of whoever wrote them; texts here are whole.
        tokenizer
            .with_truncation(None)
            .map_err(|error| FileError::invalid(&path, error))?
            .with_padding(None);
        Ok(tokenizer)
    }

    /// Loads a module: a full-precision checkpoint into dense weights, a packed one into packed
    /// weights (the weights that the files hold packed get packed here, whatever they are).
    ///
    /// `ignore` says which tensors of the files may be without a parameter in the module.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, not expected, of another shape or type, or cannot be read.
    pub fn load<M: Module>(
        &self,
        module: M,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<M, FileError> {
        let mut module = match self.scheme()? {
            Some(scheme) => self.attach_packed(module, scheme)?,
            None => module,
        };
        let mut unused: BTreeSet<&str> = self.tensors.keys().map(String::as_str).collect();
        let mut ready = Vec::new();
        let wanted = slots(&module);
        for slot in &wanted {
            let tensor = self
                .tensors
                .get(&slot.name)
                .ok_or_else(|| self.error(&slot.name, "missing".to_string()))?;
            unused.remove(slot.name.as_str());
            ready.push(self.prepare(slot, tensor)?);
        }
        if let Some(name) = unused.into_iter().find(|name| !ignore(name)) {
            let message = "the model that config.json describes has no such tensor";
            return Err(self.error(name, message.to_string()));
        }
        let result = module.apply(ready, None, None, false);
        if let Some(error) = result.errors.first() {
            return Err(FileError::invalid(&self.dir, error));
        }
        match wanted
            .iter()
            .find(|slot| !result.applied.contains(&slot.path))
        {
            Some(slot) => Err(self.error(&slot.name, "could not be loaded".to_string())),
            None => Ok(module),
        }
    }

    fn error(&self, tensor: &str, message: String) -> FileError {
        FileError::tensor(&self.dir, tensor, message)
    }

    /// Packed weights, without data, where the files have packed ones.
    fn attach_packed<M: Module>(&self, module: M, scheme: Scheme) -> Result<M, FileError> {
        let paths: Vec<String> = self
            .tensors
            .keys()
            .flat_map(|name| packed_paths(name))
            .collect();
        module
            .attach_packed(&ParamGroup::from_paths(paths), scheme)
            .map_err(|error| FileError::invalid(&self.dir.join("config.json"), error))
    }

    /// A tensor of a file as the module wants it, once its shape and type are right.
    fn prepare(&self, slot: &Slot, tensor: &FileTensor) -> Result<FileTensor, FileError> {
        let wrong = |message| self.error(&slot.name, message);
        if tensor.shape != slot.shape {
            return Err(wrong(format!(
                "has shape {:?}, expected {:?}",
                tensor.shape.as_slice(),
                slot.shape.as_slice()
            )));
        }
        let integer = matches!(slot.role, Role::Words | Role::Integer);
        let fits = match slot.role {
            Role::Words => matches!(tensor.dtype, DType::I32 | DType::U32),
            Role::Integer => tensor.dtype.is_int() || tensor.dtype.is_uint(),
            _ => tensor.dtype.is_float(),
        };
        if !fits {
            let expected = if integer { "32-bit integers" } else { "floats" };
            let found = tensor.dtype;
            return Err(wrong(format!("holds {found:?}, expected {expected}")));
        }
        let (path, role) = (slot.path.clone(), slot.role);
        let (shape, dtype) = match role {
            Role::Transposed => (Shape::new([slot.shape[1], slot.shape[0]]), DType::F32),
            Role::Words => (slot.shape.clone(), DType::I32),
            Role::Integer => (slot.shape.clone(), tensor.dtype),
            _ => (slot.shape.clone(), DType::F32),
        };
        Ok(bridge::map_data(
            tensor.clone(),
            path,
            dtype,
            shape,
            move |data| match role {
                Role::Transposed => transpose(data.convert_dtype(DType::F32)),
                Role::Words => words_as_i32(data),
                Role::Integer => data,
                _ => data.convert_dtype(DType::F32),
            },
        ))
    }
}

/// Words as the signed type that every backend has, bit for bit.
fn words_as_i32(data: TensorData) -> TensorData {
    let shape = data.shape().clone();
    match data.dtype() {
        DType::U32 => {
            let words = data.as_slice::<u32>().expect("the type was just looked at");
            let words: Vec<i32> = words.iter().map(|word| *word as i32).collect();
            TensorData::new(words, shape)
        }
        _ => data,
    }
}

/// A matrix of f32, transposed.
pub(super) fn transpose(data: TensorData) -> TensorData {
    let (rows, columns) = (data.shape()[0], data.shape()[1]);
    let from = data.as_slice::<f32>().expect("a matrix of f32");
    let mut to = vec![0.0f32; from.len()];
    // In tiles, so that neither side strides through memory.
    const TILE: usize = 32;
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for i in top..(top + TILE).min(rows) {
                for j in left..(left + TILE).min(columns) {
                    to[j * rows + i] = from[i * columns + j];
                }
            }
        }
    }
    TensorData::new(to, [columns, rows])
}

fn open_file(path: &Path) -> Result<BTreeMap<String, FileTensor>, FileError> {
    fs::File::open(path).map_err(FileError::io(path))?;
    let mut store = SafetensorsStore::from_file(path);
    let tensors = store
        .get_all_tensors()
        .map_err(|error| FileError::invalid(path, format!("not a safetensors file: {error}")))?;
    Ok(tensors.clone())
}

/// Opens the files that an index names, and takes from each the tensors that the index says it has.
fn open_shards(dir: &Path, index: &Path) -> Result<BTreeMap<String, FileTensor>, FileError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = read_json(index)?;
    let mut files: BTreeMap<&str, BTreeMap<String, FileTensor>> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, file) in &weight_map {
        if Path::new(file).file_name() != Some(file.as_ref()) {
            let message = format!("weight_map names {file:?}, expected a file of the directory");
            return Err(FileError::invalid(index, message));
        }
        if !files.contains_key(file.as_str()) {
            files.insert(file, open_file(&dir.join(file))?);
        }
        let tensor = files[file.as_str()].get(name).ok_or_else(|| {
            let message = format!("missing, though {} names it", index.display());
            FileError::tensor(&dir.join(file), name, message)
        })?;
        tensors.insert(name.clone(), tensor.clone());
    }
    Ok(tensors)
}
