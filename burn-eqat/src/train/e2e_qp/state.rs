//! Where E2E-QP is, in a run directory: step sizes, optimizer, the best so far.

use crate::RunDir;
use crate::files::FileError;
use crate::module::{map_scales, packed_weights};
use crate::train::TrainError;
use crate::train::best::BestSoFar;
use crate::train::kept_tensors::{KeptTensors, Moments, named_tensor, write_kept};
use burn::module::{Module, ParamId};
use burn::optim::ModuleOptimizer;
use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

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
    kept: KeptTensors,
}

impl State {
    /// The state that a run was left in.
    pub fn load(run: &RunDir) -> Result<Option<Self>, TrainError> {
        let Some(stored) = run.stored(ROLE)? else {
            return Ok(None);
        };
        let kept = KeptTensors::read(&stored.path)?;
        let position = kept.metadata(POSITION)?;
        let position = serde_json::from_str(position);
        let position = position.map_err(|error| kept.invalid(error.to_string()))?;
        Ok(Some(Self { position, kept }))
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
            scales.map(move |(path, data)| named_tensor(format!("{kind}:{path}"), data))
        };
        let scales = named(SCALES, kept.scales);
        let tensors = scales.chain(named(BEST, kept.best.unwrap_or_default()));
        let text = serde_json::to_string(&position)
            .map_err(|error| FileError::invalid(run.path(), error))?;
        let file = format!("{ROLE}-{:08}-{:08}.bpk", position.epoch, position.step);
        let tensors = tensors.collect();
        let write = |path: &Path| write_kept(path, tensors, kept.moments, &[(POSITION, &text)]);
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
        let data = self.kept.floats(&format!("{kind}:{path}"), &shape)?;
        data.ok_or_else(|| {
            let message = format!("no step sizes of {path} in f32, {shape:?}");
            self.kept.invalid(message)
        })
    }

    /// Fails for moments of parameters that are none of these paths.
    pub fn check_moments(&self, known: &dyn Fn(&str) -> bool) -> Result<(), TrainError> {
        self.kept.check_moments(known)
    }

    /// The optimizer, with the moments of the state for parameters by their paths.
    pub fn optimizer(
        &self,
        ids: &HashMap<String, ParamId>,
        optim: ModuleOptimizer,
    ) -> Result<ModuleOptimizer, TrainError> {
        self.kept.optimizer(ids, optim)
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

/// What names of step sizes begin with: of the model, and of the best epoch.
pub(super) const SCALES: &str = "scales";
pub(super) const BEST: &str = "best";
