use super::FileError;
use super::layout::{Role, Slot, packed_paths, slots};
use super::stored::{Format, Shapes, Stored};
use crate::{Packed, Quantize, Scheme};
use burn::module::{Module, ParamGroup, Reparameterization};
use burn::store::{ModuleSnapshot, ModuleStore, SafetensorsStore, bridge};
use burn::tensor::{DType, Shape, TensorData};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// A tensor that is read from its file when its data is asked for.
type FileTensor = burn::store::burn_pack::Tensor;

/// A checkpoint directory that has been opened: its configuration is read and the headers of its
/// safetensors files are checked; tensor data stays in the files until a module is loaded, and files are
/// open for so long only.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: Value,
    tensors: BTreeMap<String, Located>,
}

/// Where a tensor is, and what its file says of it.
#[derive(Clone, Debug)]
struct Located {
    file: PathBuf,
    shape: Shape,
    dtype: DType,
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
            true => locate_shards(dir, &index)?,
            false => locate(&dir.join("model.safetensors"))?,
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

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        let bytes = |tensor: &Located| tensor.shape.num_elements() * tensor.dtype.size();
        self.tensors.values().map(bytes).sum()
    }

    /// The scheme of a packed checkpoint and whose format it is in; `None` for a full-precision one.
    ///
    /// `module` is what it is to be loaded into: where no file says a scheme (the EfficientQAT
    /// reference's), the shapes of its weights tell it.
    ///
    /// # Errors
    ///
    /// When the quantization entry of `config.json` (or a `quantize_config.json` in its place) is of no
    /// format that is read, or shapes tell no scheme.
    pub fn scheme<M: Module>(&self, module: &M) -> Result<Option<(Scheme, Format)>, FileError> {
        let stored = self.stored(&slots(module), "")?;
        Ok(stored.map(|stored| (stored.scheme, stored.format)))
    }

    fn stored(&self, slots: &[Slot], prefix: &str) -> Result<Option<Stored>, FileError> {
        let path = self.dir.join("config.json");
        let entry = self.config.get("quantization_config");
        if let Some(entry) = entry.filter(|entry| !entry.is_null()) {
            let wrong =
                |message| FileError::invalid(&path, format!("quantization_config.{message}"));
            return Stored::from_config(entry).map(Some).map_err(wrong);
        }
        if !self.tensors.keys().any(|name| name.ends_with(".qweight")) {
            return Ok(None);
        }
        // Older GPTQ checkpoints say it in a file of its own.
        let path = self.dir.join("quantize_config.json");
        if path.exists() {
            let mut entry: Value = read_json(&path)?;
            if let Value::Object(fields) = &mut entry {
                fields.entry("quant_method").or_insert("gptq".into());
            }
            let wrong = |message: String| FileError::invalid(&path, message);
            return Stored::from_config(&entry).map(Some).map_err(wrong);
        }
        self.guess(slots, prefix)
    }

    /// The scheme of a checkpoint that does not say it, by the packed weights of a module; none where it has
    /// none.
    fn guess(&self, slots: &[Slot], prefix: &str) -> Result<Option<Stored>, FileError> {
        let side = |name: String, at: usize| Some(*self.tensors.get(&name)?.shape.get(at)?);
        let shapes = |slot: &Slot| {
            let layer = format!("{prefix}{}", slot.name.strip_suffix("weight")?);
            Some(Shapes {
                dense: dense_shape(slot)?,
                code_rows: side(format!("{layer}qweight"), 0)?,
                zero_columns: side(format!("{layer}qzeros"), 1)?,
                groups: side(format!("{layer}scales"), 0)?,
            })
        };
        let packed = slots.iter().filter_map(|slot| Some((slot, shapes(slot)?)));
        let (names, shapes): (Vec<_>, Vec<_>) = packed.map(|(slot, s)| (&slot.name, s)).unzip();
        let (Some(name), Some(first)) = (names.first(), shapes.first()) else {
            return Ok(None);
        };
        match Stored::from_shapes(&shapes) {
            Some(stored) => Ok(Some(stored)),
            None => {
                let message = format!(
                    "and others are packed as no scheme has it (this in {} rows of words with {} rows \
                     of scales for {} inputs), and no quantization_config says how",
                    first.code_rows, first.groups, first.dense[0]
                );
                Err(self.error(&format!("{prefix}{name}"), message))
            }
        }
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
        self.load_part(module, "", ignore)
    }

    /// Loads a part of a model, whose tensors have names that begin with `prefix` (`model.layers.3.`,
    /// say): see [`load`](Self::load). Only the files that have them are opened, and only for that long.
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
        let (mut module, wanted, ready) = self.ready(module, prefix, ignore)?;
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

    /// Checks that [`load_part`](Self::load_part) will find what it needs, without reading the data of
    /// what it loads.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, not expected, or of another shape or type.
    pub fn check_part<M: Module>(
        &self,
        module: M,
        prefix: &str,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<(), FileError> {
        self.ready(module, prefix, ignore).map(drop)
    }

    /// A module as the files ask for it, its parameters, and a tensor for each that is yet to be read.
    fn ready<M: Module>(
        &self,
        module: M,
        prefix: &str,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<(M, Vec<Slot>, Vec<FileTensor>), FileError> {
        let dense = slots(&module);
        let stored = self.stored(&dense, prefix)?;
        let module = match stored {
            Some(stored) => self.attach_packed(module, &dense, stored.scheme, prefix)?,
            None => module,
        };
        let part = Part {
            checkpoint: self,
            prefix,
            stored,
            dense: (dense.into_iter())
                .filter_map(|slot| Some((slot.path.clone(), dense_shape(&slot)?)))
                .collect(),
        };
        let wanted = slots(&module);
        let mut files = Files::default();
        part.check_unused(&wanted, ignore, &mut files)?;
        let mut ready = Vec::new();
        for slot in &wanted {
            ready.push(part.prepare(slot, &mut files)?);
        }
        Ok((module, wanted, ready))
    }

    fn error(&self, tensor: &str, message: String) -> FileError {
        FileError::tensor(&self.dir, tensor, message)
    }

    /// Packed weights, without data, where the files have packed ones.
    fn attach_packed<M: Module>(
        &self,
        module: M,
        dense: &[Slot],
        scheme: Scheme,
        prefix: &str,
    ) -> Result<M, FileError> {
        let paths: Vec<String> = (self.tensors.keys())
            .filter_map(|name| name.strip_prefix(prefix))
            .flat_map(packed_paths)
            .collect();
        // A part of a model may have none.
        if !dense.iter().any(|slot| paths.contains(&slot.path)) {
            return Ok(module);
        }
        module
            .attach_packed(&ParamGroup::from_paths(paths).into(), scheme)
            .map_err(|error| FileError::invalid(&self.dir.join("config.json"), error))
    }
}

/// Files that are open, with the tensors that they have.
#[derive(Default)]
struct Files(HashMap<PathBuf, BTreeMap<String, FileTensor>>);

impl Files {
    fn tensor(&mut self, located: &Located, name: &str) -> Result<FileTensor, FileError> {
        let file = &located.file;
        if !self.0.contains_key(file) {
            self.0.insert(file.clone(), open_file(file)?);
        }
        let tensor = self.0[file].get(name).cloned();
        tensor.ok_or_else(|| FileError::tensor(file, name, "is gone since the file was opened"))
    }
}

/// A part of a checkpoint that is being loaded.
struct Part<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'a str,
    stored: Option<Stored>,
    /// Dense shapes `[d_input, d_output]` of the matrices, by their paths.
    dense: HashMap<String, [usize; 2]>,
}

impl Part<'_> {
    fn error(&self, slot: &Slot, message: String) -> FileError {
        self.checkpoint.error(&self.name(slot), message)
    }

    /// Name in the files.
    fn name(&self, slot: &Slot) -> String {
        format!("{}{}", self.prefix, slot.name)
    }

    /// Fails for a tensor that nothing of the module is to hold.
    fn check_unused(
        &self,
        wanted: &[Slot],
        ignore: impl Fn(&str) -> bool,
        files: &mut Files,
    ) -> Result<(), FileError> {
        let wanted: BTreeSet<String> = wanted.iter().map(|slot| self.name(slot)).collect();
        let checkpoint = self.checkpoint;
        let names = checkpoint.tensors.keys();
        for name in names.filter(|name| name.starts_with(self.prefix) && !wanted.contains(*name)) {
            if !ignore(name) && !self.is_redundant(name, files)? {
                let message = "the model that config.json describes has no such tensor";
                return Err(checkpoint.error(name, message.to_string()));
            }
        }
        Ok(())
    }

    /// Whether a tensor beside a packed weight says nothing: the group of each row, which has to be the one
    /// that it lies in, or a bias of zeros.
    fn is_redundant(&self, name: &str, files: &mut Files) -> Result<bool, FileError> {
        let Some(stored) = self.stored else {
            return Ok(false);
        };
        let [layer, bias] = [".g_idx", ".bias"].map(|part| name.strip_suffix(part));
        let tensors = &self.checkpoint.tensors;
        let packed = |layer: &str| tensors.contains_key(&format!("{layer}.qweight"));
        if !layer.or(bias).is_some_and(packed) {
            return Ok(false);
        }
        let located = &tensors[name];
        let tensor = files.tensor(located, name)?;
        let data = bridge::into_data(tensor)
            .map_err(|error| self.checkpoint.error(name, format!("{error:?}")))?;
        let error = |message: String| Err(self.checkpoint.error(name, message));
        if bias.is_some() {
            return match data.iter::<f64>().all(|bias| bias == 0.0) {
                true => Ok(true),
                false => error("is not zero, and the model has no such bias".to_string()),
            };
        }
        let len = located.shape.num_elements();
        let groups = stored.scheme.groups(len);
        let groups = groups.map_err(|why| self.checkpoint.error(name, why.to_string()))?;
        let rows = len / groups.max(1);
        match data
            .iter::<i64>()
            .enumerate()
            .find(|(i, group)| *group != (i / rows) as i64)
        {
            None => Ok(true),
            Some((i, group)) => error(format!(
                "puts row {i} in group {group}, expected {}: rows in an order of their own \
                 (desc_act) are not supported",
                i / rows
            )),
        }
    }

    /// The dense shape of the weight that a slot is a part of.
    fn dense_shape(&self, slot: &Slot) -> Option<[usize; 2]> {
        let (weight, _) = slot.path.rsplit_once(&format!(".{}.", Packed::NAME))?;
        self.dense.get(weight).copied()
    }

    /// A tensor of a file as the module wants it, once its shape and type are right.
    fn prepare(&self, slot: &Slot, files: &mut Files) -> Result<FileTensor, FileError> {
        let name = self.name(slot);
        let located = (self.checkpoint.tensors.get(&name))
            .ok_or_else(|| self.error(slot, "missing".to_string()))?;
        let wrong = |message| self.error(slot, message);
        let words = self.stored.zip(self.dense_shape(slot));
        let expected = match (slot.role, words) {
            (Role::Codes, Some((stored, [k, n]))) => Shape::new([stored.words(k), n]),
            (Role::Zeros, Some((stored, [_, n]))) => Shape::new([slot.shape[0], stored.words(n)]),
            _ => slot.shape.clone(),
        };
        if located.shape != expected {
            return Err(wrong(format!(
                "has shape {:?}, expected {:?}",
                located.shape.as_slice(),
                expected.as_slice()
            )));
        }
        let words_wanted = matches!(slot.role, Role::Codes | Role::Zeros);
        let fits = match slot.role {
            Role::Codes | Role::Zeros => matches!(located.dtype, DType::I32 | DType::U32),
            Role::Integer => located.dtype.is_int() || located.dtype.is_uint(),
            _ => located.dtype.is_float(),
        };
        if !fits {
            let integer = words_wanted || slot.role == Role::Integer;
            let expected = if integer { "32-bit integers" } else { "floats" };
            let found = located.dtype;
            return Err(wrong(format!("holds {found:?}, expected {expected}")));
        }
        let (path, role) = (slot.path.clone(), slot.role);
        let (shape, dtype) = match role {
            Role::Transposed => (Shape::new([slot.shape[1], slot.shape[0]]), DType::F32),
            Role::Codes | Role::Zeros => (slot.shape.clone(), DType::I32),
            Role::Integer => (slot.shape.clone(), located.dtype),
            _ => (slot.shape.clone(), DType::F32),
        };
        let tensor = files.tensor(located, &name)?;
        let to = shape.clone();
        Ok(bridge::map_data(
            tensor,
            path,
            dtype,
            shape,
            move |data| match role {
                Role::Transposed => transpose(data.convert_dtype(DType::F32)),
                Role::Codes | Role::Zeros => own_words(data, words, role, to.clone()),
                Role::Integer => data,
                _ => data.convert_dtype(DType::F32),
            },
        ))
    }
}

/// Shape `[d_input, d_output]` of a matrix; none of what is none.
fn dense_shape(slot: &Slot) -> Option<[usize; 2]> {
    match (slot.role, slot.shape.as_slice()) {
        (Role::Transposed, [n, k]) => Some([*k, *n]),
        (Role::Plain, [k, n]) => Some([*k, *n]),
        _ => None,
    }
}

/// Words as this project has them, in the signed type that every backend has.
fn own_words(
    data: TensorData,
    stored: Option<(Stored, [usize; 2])>,
    role: Role,
    shape: Shape,
) -> TensorData {
    let words: Vec<u32> = match data.dtype() {
        DType::U32 => data.as_slice::<u32>().map(<[u32]>::to_vec),
        _ => data
            .as_slice::<i32>()
            .map(|words| words.iter().map(|word| *word as u32).collect()),
    }
    .expect("the type was just looked at");
    let words = match (stored, role) {
        (Some((stored, dense)), Role::Codes) => stored.codes(words, dense),
        (Some((stored, [_, n])), _) => stored.zeros(words, [shape[0], n]),
        (None, _) => Ok(words),
    };
    let words = words.expect("shapes were checked, and every field is a code");
    let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
    TensorData::new(words, shape)
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

/// What a file has.
fn locate(path: &Path) -> Result<BTreeMap<String, Located>, FileError> {
    let located = |tensor: FileTensor| Located {
        file: path.to_path_buf(),
        shape: tensor.shape.clone(),
        dtype: tensor.dtype,
    };
    let tensors = open_file(path)?.into_iter();
    Ok(tensors
        .map(|(name, tensor)| (name, located(tensor)))
        .collect())
}

/// What the files that an index names have, of each the tensors that the index says it has.
fn locate_shards(dir: &Path, index: &Path) -> Result<BTreeMap<String, Located>, FileError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = read_json(index)?;
    let mut files: BTreeMap<&str, BTreeMap<String, Located>> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, file) in &weight_map {
        if Path::new(file).file_name() != Some(file.as_ref()) {
            let message = format!("weight_map names {file:?}, expected a file of the directory");
            return Err(FileError::invalid(index, message));
        }
        if !files.contains_key(file.as_str()) {
            files.insert(file, locate(&dir.join(file))?);
        }
        let tensor = files[file.as_str()].get(name).ok_or_else(|| {
            let message = format!("missing, though {} names it", index.display());
            FileError::tensor(&dir.join(file), name, message)
        })?;
        tensors.insert(name.clone(), tensor.clone());
    }
    Ok(tensors)
}
