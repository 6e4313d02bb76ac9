//! Where E2E-QP is, in a run directory: step sizes, optimizer, the best so far.

use crate::RunDir;
use crate::files::FileError;
use crate::module::{map_scales, packed_weights};
use crate::train::TrainError;
use crate::train::best::BestSoFar;
use burn::module::{Module, ParamId};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::burn_pack::{self, Reader, Scalar, Writer};
use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What a run directory calls the state.
const ROLE: &str = "e2e-qp";

/// The entry of the file that says the position.
const POSITION: &str = "position";

/// How far E2E-QP is, between two optimizer steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::train) struct Position {
    /// The epoch, from 1; one more than there are when all is done.
    pub epoch: usize,
    /// Batches of the epoch that are trained on.
    pub batches: usize,
    /// Batches of the epoch whose loss was not finite, and which are not in the sum.
    #[serde(default)]
    pub skipped: usize,
    /// Optimizer steps done, of all epochs, with those that were left out.
    pub step: usize,
    /// The sum of the losses of these batches, as the bits of an f64, so that it is read as it was written.
    pub loss_sum: u64,
    /// Epochs since the best one.
    pub worse: usize,
    /// The validation loss of the best epoch, as bits.
    pub best: Option<u64>,
}

/// The best epoch so far: its validation loss, its model, and the epochs since.
pub(in crate::train) struct Best<M> {
    pub loss: f64,
    pub model: M,
    pub worse: usize,
}

/// A state that was read.
pub(super) struct State {
    pub position: Position,
    path: PathBuf,
    tensors: BTreeMap<String, burn_pack::Tensor>,
    scalars: BTreeMap<String, Scalar>,
}

impl State {
    /// The state that a run was left in.
    pub fn load(run: &RunDir) -> Result<Option<Self>, TrainError> {
        let Some(stored) = run.stored(ROLE)? else {
            return Ok(None);
        };
        let path = stored.path;
        let invalid = |error: String| TrainError::from(FileError::invalid(&path, error));
        let reader = Reader::from_file(&path).map_err(|error| invalid(error.to_string()))?;
        let position = reader.metadata().get(POSITION).cloned();
        let position = position.ok_or_else(|| invalid(format!("has no {POSITION}")))?;
        let position =
            serde_json::from_str(&position).map_err(|error| invalid(error.to_string()))?;
        let scalars = reader.scalars().clone();
        let tensors = reader
            .into_tensors()
            .map_err(|error| invalid(error.to_string()))?;
        let tensors = tensors
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        Ok(Some(Self {
            position,
            path,
            tensors,
            scalars,
        }))
    }

    /// Keeps a state in place of the one before.
    pub fn keep<M>(
        run: &RunDir,
        position: &Position,
        best: Option<&BestSoFar<M>>,
        kept: Kept,
    ) -> Result<(), TrainError> {
        let mut position = position.clone();
        if let Some(best) = best {
            position.worse = best.worse();
            position.best = best.best().map(|(loss, _)| loss.to_bits());
        }
        let named = |kind: &'static str, scales: Scales| {
            let scales = scales.into_iter();
            scales.map(move |(path, data)| {
                let (bytes, shape, dtype) = data.into_parts();
                burn_pack::Tensor::new(format!("{kind}:{path}"), dtype, shape, None, bytes)
            })
        };
        let Moments {
            tensors: moments,
            scalars,
        } = kept.moments;
        let scales = named(SCALES, kept.scales);
        let tensors = scales.chain(named(BEST, kept.best.unwrap_or_default()));
        let text = serde_json::to_string(&position)
            .map_err(|error| FileError::invalid(run.path(), error))?;
        let mut writer = Writer::new(tensors.chain(moments).collect::<Vec<_>>())
            .with_metadata(POSITION, &text)
            .auto_extension(false)
            .overwrite(true);
        for (name, scalar) in scalars {
            writer = writer.with_scalar(&name, scalar);
        }
        let file = format!("{ROLE}-{:08}-{:08}.bpk", position.epoch, position.step);
        let write = |path: &Path| {
            let written = writer.write_to_file_in_place(path);
            written.map_err(|error| FileError::invalid(path, error))
        };
        Ok(run.store(ROLE, &file, serde_json::Value::Null, write)?)
    }

    /// The model with the step sizes of the state.
    pub fn model<M: Module>(&self, model: M) -> Result<M, TrainError> {
        self.with_scales(SCALES, model)
    }

    /// The best epoch so far.
    pub fn best<M: Module>(&self, model: &M) -> Result<Option<Best<M>>, TrainError> {
        let Some(loss) = self.position.best else {
            return Ok(None);
        };
        Ok(Some(Best {
            loss: f64::from_bits(loss),
            model: self.with_scales(BEST, model.clone())?,
            worse: self.position.worse,
        }))
    }

    fn with_scales<M: Module>(&self, kind: &str, model: M) -> Result<M, TrainError> {
        let mut values = HashMap::new();
        for (path, packed) in packed_weights(&model) {
            let scales = packed.weight.scales;
            let data = self.scales(kind, &path, scales.dims())?;
            let value = Tensor::<2>::from_data(data, &scales.device().inner());
            values.insert(path, value);
        }
        Ok(map_scales(model, values))
    }

    /// The step sizes of a weight, in f32 `[groups, d_output]`.
    pub fn scales(
        &self,
        kind: &str,
        path: &str,
        shape: [usize; 2],
    ) -> Result<TensorData, TrainError> {
        let name = format!("{kind}:{path}");
        let found = self.tensors.get(&name);
        let found =
            found.filter(|found| found.shape.as_slice() == shape && found.dtype == DType::F32);
        let found = found
            .ok_or_else(|| self.invalid(format!("no step sizes of {path} in f32, {shape:?}")))?;
        let bytes = found.to_bytes();
        let bytes = bytes.map_err(|error| self.invalid(format!("{name}: {error}")))?;
        Ok(TensorData::from_bytes(
            bytes,
            found.shape.clone(),
            found.dtype,
        ))
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
            let (name, shape) = (format!("{id}.{field}"), tensor.shape.clone());
            tensors.push(burn_pack::Tensor::new(
                name,
                tensor.dtype,
                shape,
                Some(id),
                bytes,
            ));
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

    fn invalid(&self, message: String) -> TrainError {
        FileError::invalid(&self.path, message).into()
    }
}

/// Step sizes by the paths of their weights, in f32.
pub(super) type Scales = Vec<(String, TensorData)>;

/// What is kept of a model in training.
pub(super) struct Kept {
    pub scales: Scales,
    /// Those of the best epoch.
    pub best: Option<Scales>,
    pub moments: Moments,
}

/// The state of optimizers, by the paths of parameters.
#[derive(Default)]
pub(super) struct Moments {
    tensors: Vec<burn_pack::Tensor>,
    scalars: Vec<(String, Scalar)>,
}

impl Moments {
    /// Adds those of other parameters.
    pub fn extend(&mut self, other: Self) {
        self.tensors.extend(other.tensors);
        self.scalars.extend(other.scalars);
    }
}

/// The step sizes of a model.
pub(super) fn scales_of<M: Module>(model: &M) -> Scales {
    let weights = packed_weights(model).into_iter();
    weights
        .map(|(path, packed)| {
            let data = packed.weight.scales.into_data().convert_dtype(DType::F32);
            (path, data)
        })
        .collect()
}

/// The state of an optimizer by the paths of parameters: Burn has it by their identifiers, which are others in each process.
/// `path_of` gets the identifier and the path in the module that was optimized, and gives the path in the model.
pub(super) fn by_paths(
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

/// What names of step sizes begin with: of the model, and of the best epoch.
pub(super) const SCALES: &str = "scales";
pub(super) const BEST: &str = "best";

/// What names of the optimizer's state begin with.
const MOMENTS: &str = "optimizer";

/// The path and the field in a name of the optimizer's state.
fn parse(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix(MOMENTS)?.strip_prefix(':')?;
    name.rsplit_once(':')
}
