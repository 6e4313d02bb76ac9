//! Tensors and the state of optimizers in a file, by the paths of parameters.

use crate::files::FileError;
use crate::train::random_rounding::round_at_random;
use crate::train::{CacheDType, TrainError};
use burn::module::ParamId;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::burn_pack::{self, Reader, Scalar, Writer};
use burn::tensor::{DType, TensorData};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What a file has; tensors are read when they are asked for.
pub(in crate::train) struct KeptTensors {
    path: PathBuf,
    tensors: BTreeMap<String, burn_pack::Tensor>,
    scalars: BTreeMap<String, Scalar>,
    metadata: BTreeMap<String, String>,
}

impl KeptTensors {
    /// Opens a file of [`write_kept`].
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let invalid = |error: String| TrainError::from(FileError::invalid(path, error));
        let reader = Reader::from_file(path).map_err(|error| invalid(error.to_string()))?;
        let metadata = reader.metadata().clone();
        let scalars = reader.scalars().clone();
        let tensors = reader.into_tensors();
        let tensors = tensors.map_err(|error| invalid(error.to_string()))?;
        let tensors = tensors.into_iter();
        Ok(Self {
            path: path.to_path_buf(),
            tensors: tensors
                .map(|tensor| (tensor.name.clone(), tensor))
                .collect(),
            scalars: scalars.into_iter().collect(),
            metadata: metadata.into_iter().collect(),
        })
    }

    /// A text of the file.
    pub fn metadata(&self, name: &str) -> Result<&str, TrainError> {
        let text = self.metadata.get(name);
        let text = text.ok_or_else(|| self.invalid(format!("has no {name}")))?;
        Ok(text)
    }

    /// A tensor in f32 of this shape; `None` where there is none.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Option<TensorData>, TrainError> {
        let found = self.tensors.get(name);
        let found =
            found.filter(|found| found.shape.as_slice() == shape && found.dtype == DType::F32);
        let Some(found) = found else {
            return Ok(None);
        };
        let bytes = found.to_bytes();
        let bytes = bytes.map_err(|error| self.invalid(format!("{name}: {error}")))?;
        let (shape, dtype) = (found.shape.clone(), found.dtype);
        Ok(Some(TensorData::from_bytes(bytes, shape, dtype)))
    }

    /// Fails for moments of parameters that are none of these paths.
    pub fn check_moments(&self, known: &dyn Fn(&str) -> bool) -> Result<(), TrainError> {
        let tensors = self.tensors.keys().filter_map(|name| parse(name));
        let scalars = self.scalars.keys().filter_map(|name| parse(name));
        match tensors.chain(scalars).find(|(path, _)| !known(path)) {
            None => Ok(()),
            Some((path, _)) => {
                Err(self.invalid(format!("moments of {path}, which the model has not")))
            }
        }
    }

    /// The optimizer, with the moments of the state for parameters by their paths.
    pub fn optimizer(
        &self,
        ids: &HashMap<String, ParamId>,
        optim: ModuleOptimizer,
    ) -> Result<ModuleOptimizer, TrainError> {
        let mut tensors = Vec::new();
        let mut paths = BTreeMap::new();
        for tensor in self.tensors.values() {
            let Some((path, field)) = parse(&tensor.name) else {
                continue;
            };
            let Some(id) = ids.get(path).map(ParamId::val) else {
                continue;
            };
            paths.insert(id.to_string(), path.to_string());
            let bytes = tensor.to_bytes();
            let bytes = bytes.map_err(|error| self.invalid(format!("{path}: {error}")))?;
            if ![DType::F32, DType::BF16].contains(&tensor.dtype) {
                let found = tensor.dtype;
                return Err(self.invalid(format!(
                    "{field} of {path} is {found:?}, expected F32 or BF16"
                )));
            }
            let data = TensorData::try_from_bytes(bytes, tensor.shape.clone(), tensor.dtype);
            let data =
                data.map_err(|error| self.invalid(format!("{field} of {path}: {error:?}")))?;
            // They may be kept in fewer bits than the optimizer has.
            let (bytes, shape, dtype) = data.convert_dtype(DType::F32).into_parts();
            let name = format!("{id}.{field}");
            tensors.push(burn_pack::Tensor::new(name, dtype, shape, Some(id), bytes));
        }
        let count = tensors.len();
        if count == 0 {
            return Ok(optim);
        }
        let mut writer = Writer::new(tensors);
        for (id, path) in &paths {
            writer = writer.with_metadata(id, path);
        }
        for (name, scalar) in &self.scalars {
            let Some((path, field)) = parse(name) else {
                continue;
            };
            if let Some(id) = ids.get(path).map(ParamId::val) {
                writer = writer.with_scalar(&format!("{id}.{field}"), *scalar);
            }
        }
        let failed = |error: String| self.invalid(format!("optimizer: {error}"));
        let bytes = writer.into_bytes();
        let bytes = bytes.map_err(|error| failed(error.to_string()))?;
        let record = OptimizerRecord::from_bytes(bytes);
        let optim = optim.load_record(record.map_err(|error| failed(error.to_string()))?);
        // Burn leaves out what it cannot use.
        match optim.to_record().len() {
            loaded if loaded == count => Ok(optim),
            loaded => Err(failed(format!("{loaded} of {count} tensors are usable"))),
        }
    }

    /// The error of a file that is not what is expected.
    pub fn invalid(&self, message: String) -> TrainError {
        FileError::invalid(&self.path, message).into()
    }
}

/// A tensor of the file.
pub(in crate::train) fn named_tensor(name: String, data: TensorData) -> burn_pack::Tensor {
    let (bytes, shape, dtype) = data.into_parts();
    burn_pack::Tensor::new(name, dtype, shape, None, bytes)
}

/// Writes such a file.
pub(in crate::train) fn write_kept(
    path: &Path,
    mut tensors: Vec<burn_pack::Tensor>,
    moments: Moments,
    metadata: &[(&str, &str)],
) -> Result<(), FileError> {
    tensors.extend(moments.tensors);
    let mut writer = Writer::new(tensors).auto_extension(false).overwrite(true);
    for (name, text) in metadata {
        writer = writer.with_metadata(name, text);
    }
    for (name, scalar) in moments.scalars {
        writer = writer.with_scalar(&name, scalar);
    }
    let written = writer.write_to_file_in_place(path);
    written.map_err(|error| FileError::invalid(path, error))
}

/// The state of optimizers, by the paths of parameters.
#[derive(Default)]
pub(in crate::train) struct Moments {
    tensors: Vec<burn_pack::Tensor>,
    scalars: Vec<(String, Scalar)>,
}

impl Moments {
    /// The same with the tensors in this type; what is rounded is [rounded at random](round_at_random), as the seed
    /// says, which is another for each step.
    pub fn in_dtype(self, dtype: CacheDType, seed: u64) -> Result<Self, TrainError> {
        if dtype == CacheDType::F32 {
            return Ok(self);
        }
        let failed = |error: String| TrainError::Training(format!("optimizer: {error}"));
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for tensor in self.tensors {
            let parts = tensor.into_parts();
            let (name, dtype, shape, _, bytes) =
                parts.map_err(|error| failed(error.to_string()))?;
            let data = TensorData::from_bytes(bytes, shape.clone(), dtype);
            let numbers = data.as_slice::<f32>();
            let numbers = numbers.map_err(|error| failed(format!("{name}: {error:?}")))?;
            // By the name: an optimizer has its tensors in another order in each process.
            let seed = (seed << 32) ^ u64::from(crc32fast::hash(name.as_bytes()));
            let rounded = TensorData::new(round_at_random(numbers, seed), shape);
            tensors.push(named_tensor(name, rounded));
        }
        Ok(Self { tensors, ..self })
    }

    /// Adds those of other parameters.
    pub fn extend(&mut self, other: Self) {
        self.tensors.extend(other.tensors);
        self.scalars.extend(other.scalars);
    }
}

/// The state of an optimizer by the paths of parameters: Burn has it by their identifiers, which are others in each process.
/// `path_of` gets the identifier and the path in the module that was optimized, and gives the path in the model.
pub(in crate::train) fn by_paths(
    optim: &ModuleOptimizer,
    path_of: &dyn Fn(&str, &str) -> Option<String>,
) -> Result<Moments, TrainError> {
    let failed = |error: String| TrainError::Training(format!("optimizer: {error}"));
    let bytes = optim.to_record().into_bytes();
    let reader = Reader::from_bytes(bytes.map_err(|error| failed(error.to_string()))?);
    let reader = reader.map_err(|error| failed(error.to_string()))?;
    let paths = reader.metadata().clone();
    let rename = |name: &str| {
        let (id, field) = name.split_once('.')?;
        let path = path_of(id, paths.get(id)?)?;
        Some(format!("{MOMENTS}:{path}:{field}"))
    };
    let unknown = |name: &str| failed(format!("{name} is of no parameter"));
    let mut moments = Moments::default();
    for (name, scalar) in reader.scalars() {
        let renamed = rename(name).ok_or_else(|| unknown(name))?;
        moments.scalars.push((renamed, *scalar));
    }
    let tensors = reader.into_tensors();
    for tensor in tensors.map_err(|error| failed(error.to_string()))? {
        let parts = tensor
            .into_parts()
            .map_err(|error| failed(error.to_string()))?;
        let (name, dtype, shape, _, bytes) = parts;
        let name = rename(&name).ok_or_else(|| unknown(&name))?;
        let tensor = burn_pack::Tensor::new(name, dtype, shape, None, bytes);
        moments.tensors.push(tensor);
    }
    Ok(moments)
}

/// What names of the optimizer's state begin with.
const MOMENTS: &str = "optimizer";

/// The path and the field in a name of the optimizer's state.
fn parse(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix(MOMENTS)?.strip_prefix(':')?;
    name.rsplit_once(':')
}
