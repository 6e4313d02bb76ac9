//! Where E2E-QP is, in a run directory: step sizes, optimizer, the best so far.

use crate::RunDir;
use crate::files::FileError;
use crate::module::{list_params, map_scales, packed_weights};
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
pub(super) struct Position {
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
pub(super) struct Best<M> {
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
    pub fn keep<M: Module>(
        run: &RunDir,
        position: &Position,
        model: &M,
        optim: &ModuleOptimizer,
        best: Option<&BestSoFar<M>>,
    ) -> Result<(), TrainError> {
        let mut position = position.clone();
        let mut tensors = scales("scales", model);
        if let Some(best) = best {
            position.worse = best.worse();
            if let Some((loss, model)) = best.best() {
                position.best = Some(loss.to_bits());
                tensors.extend(scales("best", model));
            }
        }
        let (moments, scalars) = by_paths(optim)
            .map_err(|error| FileError::invalid(run.path(), format!("optimizer: {error}")))?;
        tensors.extend(moments);
        let text = serde_json::to_string(&position)
            .map_err(|error| FileError::invalid(run.path(), error))?;
        let mut writer = Writer::new(tensors)
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
        self.with_scales("scales", model)
    }

    /// The best epoch so far.
    pub fn best<M: Module>(&self, model: &M) -> Result<Option<Best<M>>, TrainError> {
        let Some(loss) = self.position.best else {
            return Ok(None);
        };
        Ok(Some(Best {
            loss: f64::from_bits(loss),
            model: self.with_scales("best", model.clone())?,
            worse: self.position.worse,
        }))
    }

    fn with_scales<M: Module>(&self, kind: &str, model: M) -> Result<M, TrainError> {
        let mut values = HashMap::new();
        for (path, packed) in packed_weights(&model) {
            let scales = packed.weight.scales;
            let name = format!("{kind}:{path}");
            let found = self.tensors.get(&name);
            let found = found.filter(|found| {
                found.shape.as_slice() == scales.dims() && found.dtype == DType::F32
            });
            let found = found.ok_or_else(|| {
                self.invalid(format!(
                    "no step sizes of {path} in f32, {:?}",
                    scales.dims()
                ))
            })?;
            let bytes = found.to_bytes();
            let bytes = bytes.map_err(|error| self.invalid(format!("{name}: {error}")))?;
            let data = TensorData::from_bytes(bytes, found.shape.clone(), found.dtype);
            let value = Tensor::<2>::from_data(data, &scales.device().inner());
            values.insert(path, value);
        }
        Ok(map_scales(model, values))
    }

    /// The optimizer, with the moments of the state for the parameters of a model.
    pub fn optimizer<M: Module>(
        &self,
        model: &M,
        optim: ModuleOptimizer,
    ) -> Result<ModuleOptimizer, TrainError> {
        let ids = list_params(model).into_iter();
        let ids: HashMap<String, ParamId> = ids.map(|param| (param.path, param.id)).collect();
        let find = |path: &str| {
            let id = ids.get(path).copied();
            id.ok_or_else(|| self.invalid(format!("moments of {path}, which the model has not")))
        };
        let mut tensors = Vec::new();
        let mut paths = BTreeMap::new();
        for tensor in self.tensors.values() {
            let Some((path, field)) = parse(&tensor.name) else {
                continue;
            };
            let id = find(path)?.val();
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
        let mut writer = Writer::new(tensors);
        for (id, path) in &paths {
            writer = writer.with_metadata(id, path);
        }
        for (name, scalar) in &self.scalars {
            let Some((path, field)) = parse(name) else {
                continue;
            };
            let id = find(path)?.val();
            writer = writer.with_scalar(&format!("{id}.{field}"), *scalar);
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

/// The step sizes of a model.
fn scales<M: Module>(kind: &str, model: &M) -> Vec<burn_pack::Tensor> {
    let weights = packed_weights(model).into_iter();
    weights
        .map(|(path, packed)| {
            let data = packed.weight.scales.into_data().convert_dtype(DType::F32);
            let (bytes, shape, dtype) = data.into_parts();
            burn_pack::Tensor::new(format!("{kind}:{path}"), dtype, shape, None, bytes)
        })
        .collect()
}

type Moments = (Vec<burn_pack::Tensor>, Vec<(String, Scalar)>);

/// The state of an optimizer by the paths of parameters: Burn has it by their identifiers, which are others in each process.
fn by_paths(optim: &ModuleOptimizer) -> Result<Moments, String> {
    let bytes = optim.to_record().into_bytes();
    let reader = Reader::from_bytes(bytes.map_err(|error| error.to_string())?);
    let reader = reader.map_err(|error| error.to_string())?;
    let paths = reader.metadata().clone();
    let rename = |name: &str| {
        let (id, field) = name.split_once('.')?;
        Some(format!("{MOMENTS}:{}:{field}", paths.get(id)?))
    };
    let unknown = |name: &str| format!("{name} is of no parameter");
    let mut scalars = Vec::new();
    for (name, scalar) in reader.scalars() {
        scalars.push((rename(name).ok_or_else(|| unknown(name))?, *scalar));
    }
    let mut tensors = Vec::new();
    for tensor in reader.into_tensors().map_err(|error| error.to_string())? {
        let parts = tensor.into_parts().map_err(|error| error.to_string())?;
        let (name, dtype, shape, _, bytes) = parts;
        let name = rename(&name).ok_or_else(|| unknown(&name))?;
        tensors.push(burn_pack::Tensor::new(name, dtype, shape, None, bytes));
    }
    Ok((tensors, scalars))
}

/// What names of the optimizer's state begin with.
const MOMENTS: &str = "optimizer";

/// The path and the field in a name of the optimizer's state.
fn parse(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix(MOMENTS)?.strip_prefix(':')?;
    name.rsplit_once(':')
}
