//! Loading a module, or a part of a larger one, from tensors in files.

use super::error::FileError;
use super::layout::{Role, Slot, packed_name, slots};
use super::quantization::Quantization;
use super::stored::Stored;
use super::tensor_file::{FileTensor, Located, OpenFiles};
use super::transpose::transpose;
use crate::Scheme;
use crate::module::attach_skeletons;
use crate::pattern::Pattern;
use burn::module::Module;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{DType, Shape, TensorData};
use burn_eqat_kernels::word_type;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The float type of a loaded module.
#[derive(Clone, Copy, Debug)]
pub(super) enum LoadedFloats<'a> {
    /// f32, except for parameters whose paths in the whole model match one of these: they keep the type of the file.
    F32Except(&'a [Pattern]),
    /// In the type of the file.
    AsStored,
}

/// Tensors that a module is loaded from.
pub(super) struct Source<'a> {
    /// The file or directory, for messages.
    pub path: &'a Path,
    pub tensors: &'a BTreeMap<String, Located>,
    /// The quantization of packed weights, if there are any.
    pub quantization: Option<Quantization>,
    pub floats: LoadedFloats<'a>,
    /// The prefix of the module's tensor names, such as `model.layers.3.`.
    pub prefix: &'a str,
    /// The paths of the parameters to load; others of the module stay as they are.
    pub inside: &'a dyn Fn(&str) -> bool,
}

/// A module, its parameters, and the tensor to read for each.
pub(super) struct Ready<M> {
    module: M,
    wanted: Vec<Slot>,
    tensors: Vec<FileTensor>,
}

/// A packed weight: how it is stored, and its shape `[d_input, d_output]`.
type PackedShape = (Stored, [usize; 2]);

impl Source<'_> {
    /// Loads the module. `ignore` says which tensors need no parameter in it.
    pub fn load<M: Module>(
        &self,
        module: M,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<M, FileError> {
        let Ready {
            mut module,
            wanted,
            tensors,
        } = self.ready(module, ignore)?;
        let result = module.apply(tensors, None, None, false);
        if let Some(error) = result.errors.first() {
            return Err(FileError::invalid(self.path, error));
        }
        let applied: BTreeSet<&String> = result.applied.iter().collect();
        match wanted.iter().find(|slot| !applied.contains(&slot.path)) {
            Some(slot) => Err(self.error(slot, "could not be loaded")),
            None => Ok(module),
        }
    }

    /// Prepares the module for the files, and checks everything that is to be read.
    pub fn ready<M: Module>(
        &self,
        module: M,
        ignore: impl Fn(&str) -> bool,
    ) -> Result<Ready<M>, FileError> {
        let packed = self.packed(&self.slots(&module))?;
        let schemes = packed
            .iter()
            .map(|(path, (stored, _))| (path.clone(), stored.scheme));
        let module = attach_skeletons(module, schemes.collect());
        let wanted = self.slots(&module);
        let device = module.devices().into_iter().next();
        let word_type = device.map_or(DType::I32, |device| word_type(&device));
        let mut files = OpenFiles::default();
        self.check_unused(&wanted, &packed, ignore, &mut files)?;
        let tensors = wanted
            .iter()
            .map(|slot| self.prepare(slot, &packed, word_type, &mut files))
            .collect::<Result<_, FileError>>()?;
        Ok(Ready {
            module,
            wanted,
            tensors,
        })
    }

    /// The parameters to load.
    fn slots<M: Module>(&self, module: &M) -> Vec<Slot> {
        let mut slots = slots(module);
        slots.retain(|slot| (self.inside)(&slot.path));
        slots
    }

    /// The schemes of the weights that the files have packed, by their paths in the module.
    pub fn schemes<M: Module>(&self, module: &M) -> Result<BTreeMap<String, Scheme>, FileError> {
        let packed = self.packed(&slots(module))?.into_iter();
        Ok(packed
            .map(|(path, (stored, _))| (path, stored.scheme))
            .collect())
    }

    fn error(&self, slot: &Slot, message: impl Into<String>) -> FileError {
        FileError::tensor(self.path, &self.name(slot), message)
    }

    /// Name in the files.
    fn name(&self, slot: &Slot) -> String {
        format!("{}{}", self.prefix, slot.name)
    }

    /// The weights that are packed in the files, by their paths in the module.
    fn packed(&self, dense: &[Slot]) -> Result<HashMap<String, PackedShape>, FileError> {
        let Some(quantization) = &self.quantization else {
            return Ok(HashMap::new());
        };
        let mut packed = HashMap::new();
        for slot in dense {
            let path = format!("{}{}", self.prefix, slot.path);
            let codes = packed_name(&path, "qweight");
            if let Some(shape) = slot.dense_shape()
                && self.tensors.contains_key(&codes)
            {
                let wrong = |message: String| FileError::tensor(self.path, &codes, message);
                let stored = quantization.of(&path).map_err(wrong)?;
                let groups = stored.scheme.groups(shape[0]);
                groups.map_err(|error| wrong(error.to_string()))?;
                packed.insert(slot.path.clone(), (stored, shape));
            }
        }
        Ok(packed)
    }

    /// Fails for a tensor without a parameter in the module.
    fn check_unused(
        &self,
        wanted: &[Slot],
        packed: &HashMap<String, PackedShape>,
        ignore: impl Fn(&str) -> bool,
        files: &mut OpenFiles,
    ) -> Result<(), FileError> {
        let wanted: BTreeSet<String> = wanted.iter().map(|slot| self.name(slot)).collect();
        let names = self.tensors.keys();
        for name in names.filter(|name| name.starts_with(self.prefix) && !wanted.contains(*name)) {
            if !ignore(name) && !self.is_redundant(name, packed, files)? {
                let message = "the model has no such tensor";
                return Err(FileError::tensor(self.path, name, message));
            }
        }
        Ok(())
    }

    /// Whether a packed weight's extra tensor has no information: `g_idx` with each row in the group of its
    /// position, or a bias of zeros.
    fn is_redundant(
        &self,
        name: &str,
        packed: &HashMap<String, PackedShape>,
        files: &mut OpenFiles,
    ) -> Result<bool, FileError> {
        let [layer, bias] = [".g_idx", ".bias"].map(|part| name.strip_suffix(part));
        let Some(layer) = layer.or(bias) else {
            return Ok(false);
        };
        let layer = layer.strip_prefix(self.prefix).unwrap_or(layer);
        let weight = packed.get(&format!("{layer}.weight"));
        let Some((stored, [d_input, _])) = weight.or_else(|| packed.get(layer)) else {
            return Ok(false);
        };
        let error = |message: String| FileError::tensor(self.path, name, message);
        let tensor = files.tensor(&self.tensors[name])?;
        let data = bridge::into_data(tensor).map_err(|why| error(format!("{why:?}")))?;
        if bias.is_some() {
            return if data.iter::<f64>().all(|bias| bias == 0.0) {
                Ok(true)
            } else {
                let message = "is not zero, and the model has no such bias";
                Err(error(message.to_string()))
            };
        }
        let len = data.shape().num_elements();
        if len != *d_input {
            return Err(error(format!("has {len} rows, expected {d_input}")));
        }
        let rows = stored.scheme.rows_per_group(len);
        let mut groups = data.iter::<i64>().enumerate();
        match groups.find(|(i, group)| *group != (i / rows) as i64) {
            None => Ok(true),
            Some((i, group)) => Err(error(format!(
                "puts row {i} in group {group}, expected {}: rows in an order of their own \
                 (desc_act) are not supported",
                i / rows
            ))),
        }
    }

    /// Checks the shape and type of a tensor, and converts it to the module's layout.
    fn prepare(
        &self,
        slot: &Slot,
        packed: &HashMap<String, PackedShape>,
        word_type: DType,
        files: &mut OpenFiles,
    ) -> Result<FileTensor, FileError> {
        let located =
            (self.tensors.get(&self.name(slot))).ok_or_else(|| self.error(slot, "missing"))?;
        let words = slot.packed_weight().and_then(|path| packed.get(path));
        let words = words.copied();
        if slot.packed_weight().is_some() && words.is_none() {
            let message = "the weight of the model is packed already, expected a dense one";
            return Err(self.error(slot, message));
        }
        let expected = match (slot.role, words) {
            (Role::Codes, Some((stored, [k, n]))) => Shape::new([stored.words(k), n]),
            (Role::ZeroPoints, Some((stored, [_, n]))) => {
                Shape::new([slot.shape[0], stored.words(n)])
            }
            _ => slot.shape.clone(),
        };
        let (found, expected) = (located.shape.as_slice(), expected.as_slice());
        if found != expected {
            let message = format!("has shape {found:?}, expected {expected:?}");
            return Err(self.error(slot, message));
        }
        let found = located.dtype;
        let (fits, kind) = match slot.role {
            Role::Codes | Role::ZeroPoints => {
                (matches!(found, DType::I32 | DType::U32), "32-bit integers")
            }
            Role::Integer => (found.is_int() || found.is_uint(), "integers"),
            Role::Bool => (found.is_bool() || found == DType::U8, "truth values"),
            Role::FakeQuant => (false, "a weight that has no fake quantization attached"),
            Role::Plain | Role::Transposed | Role::Scales => (found.is_float(), "floats"),
        };
        if !fits {
            return Err(self.error(slot, format!("holds {found:?}, expected {kind}")));
        }
        let float = match self.floats {
            LoadedFloats::F32Except(kept) => {
                let path = format!("{}{}", self.prefix, slot.path);
                match kept.iter().any(|pattern| pattern.matches(&path)) {
                    true => found,
                    false => DType::F32,
                }
            }
            LoadedFloats::AsStored => found,
        };
        let role = slot.role;
        let (shape, dtype) = match role {
            Role::Transposed => (Shape::new([slot.shape[1], slot.shape[0]]), float),
            Role::Codes | Role::ZeroPoints => (slot.shape.clone(), word_type),
            Role::Scales => (slot.shape.clone(), DType::F32),
            Role::Integer | Role::Bool | Role::FakeQuant => (slot.shape.clone(), found),
            Role::Plain => (slot.shape.clone(), float),
        };
        let tensor = files.tensor(located)?;
        let to = shape.clone();
        let form = move |data: TensorData| match role {
            Role::Transposed => transpose(data.convert_dtype(dtype)),
            Role::Codes | Role::ZeroPoints => {
                own_words(data, words, role, to.clone()).convert_dtype(word_type)
            }
            _ if data.dtype() == dtype => data,
            _ => data.convert_dtype(dtype),
        };
        Ok(bridge::map_data(
            tensor,
            slot.path.clone(),
            dtype,
            shape,
            form,
        ))
    }
}

/// Words in this project's layout, in the signed type that every backend has.
fn own_words(
    data: TensorData,
    packed: Option<PackedShape>,
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
    let words = match (packed, role) {
        (Some((stored, dense)), Role::Codes) => stored.codes(words, dense),
        (Some((stored, [_, n])), _) => stored.zeros(words, [shape[0], n]),
        (None, _) => Ok(words),
    };
    let words = words.expect("shapes were checked, and every field is a code");
    let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
    TensorData::new(words, shape)
}
