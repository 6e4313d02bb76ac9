use crate::QuantizeError;
use crate::module::{is_under, list_params, packed_weights};
use crate::run_dir::{HostScale, HostScales};
use crate::train::TrainError;
use crate::train::e2e_qp::state::{SCALES, State};
use crate::train::kept_tensors::{Moments, by_paths};
use crate::train::optimizer::adamw;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, Param, ParamId};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::{Bytes, DType, Device, Shape, Tensor, TensorData};
use std::collections::HashMap;
use std::sync::Arc;

/// The step sizes of a block, or of what is outside of the blocks, with the moments of their optimizer; all on the host.
pub(super) struct Piece {
    /// The block; `None` outside.
    pub index: Option<usize>,
    /// The path of the block in the model; empty outside.
    path: String,
    /// By the paths of their weights in the block.
    pub scales: Arc<HostScales>,
    /// The record of the optimizer; `None` before the first step.
    moments: Option<Bytes>,
}

impl Piece {
    /// The step sizes that a model, where no gradients are recorded, has in memory under a path.
    pub fn of<M: Module>(model: &M, index: Option<usize>, path: &str) -> Self {
        let ids = list_params(model).into_iter();
        let ids: HashMap<String, ParamId> = ids.map(|param| (param.path, param.id)).collect();
        let weights = packed_weights(model).into_iter();
        let inside = weights.filter(|(weight, _)| is_under(weight, path));
        let scales = inside.filter_map(|(weight, packed)| {
            let data = packed.weight.scales.into_data().convert_dtype(DType::F32);
            let id = *ids.get(&weight)?;
            Some((inner_path(&weight, path), HostScale { id, data }))
        });
        Self {
            index,
            path: path.to_string(),
            scales: Arc::new(scales.collect()),
            moments: None,
        }
    }

    /// The path in the model of a weight in the piece.
    pub fn full_path(&self, weight: &str) -> String {
        if self.path.is_empty() {
            weight.to_string()
        } else {
            format!("{}.{weight}", self.path)
        }
    }

    /// The parameters without their numbers.
    pub fn skeletons(&self, device: &Device) -> Vec<Param<Tensor<2>>> {
        let scales = self.scales.values();
        scales
            .map(|scale| {
                let shape: Shape = scale.data.shape().clone();
                let of = shape.clone();
                let zeros = move |device: &Device, _| Tensor::zeros(of.clone(), device);
                Param::uninitialized(scale.id, zeros, device.clone(), false, shape)
            })
            .collect()
    }

    /// A step with its part of the gradients, which is taken from them.
    pub fn step(
        &mut self,
        grads: &mut GradientsParams,
        rates: &ModuleLearningRate,
        device: &Device,
    ) -> Result<(), TrainError> {
        let mut own = GradientsParams::new();
        for scale in self.scales.values() {
            if let Some(grad) = grads.remove::<2>(scale.id) {
                own.register(scale.id, grad);
            }
        }
        if own.is_empty() {
            return Ok(());
        }
        let params: Vec<Param<Tensor<2>>> = (self.scales.values())
            .map(|scale| {
                let value = Tensor::from_data(scale.data.clone(), (device, DType::F32));
                Param::initialized(scale.id, value.require_grad())
            })
            .collect();
        let mut optim = adamw();
        if let Some(moments) = self.moments.take() {
            let record = OptimizerRecord::from_bytes(moments);
            optim = optim.load_record(record.map_err(failed)?);
        }
        let params = optim.step(rates.clone(), params, own);
        let record = optim.to_record().into_bytes();
        self.moments = Some(record.map_err(failed)?);
        let values = params.into_iter().map(|param| {
            let data = param.val().inner().into_data();
            (param.id, data)
        });
        self.put(values.collect());
        Ok(())
    }

    /// Other step sizes; parameters keep their names.
    fn put(&mut self, mut values: HashMap<ParamId, TensorData>) {
        let scales = self.scales.iter().map(|(path, scale)| {
            let data = values.remove(&scale.id);
            let data = data.unwrap_or_else(|| scale.data.clone());
            (path.clone(), HostScale { id: scale.id, data })
        });
        self.scales = Arc::new(scales.collect());
    }

    /// The moments, for the run directory.
    pub fn kept_moments(&self) -> Result<Moments, TrainError> {
        let Some(moments) = &self.moments else {
            return Ok(Moments::default());
        };
        let record = OptimizerRecord::from_bytes(moments.clone());
        let optim = adamw().load_record(record.map_err(failed)?);
        let by_id = self.scales.iter();
        let by_id = by_id.map(|(path, scale)| (scale.id.val().to_string(), path));
        let by_id: HashMap<String, &String> = by_id.collect();
        by_paths(&optim, &|id, _| {
            by_id.get(id).map(|weight| self.full_path(weight))
        })
    }

    /// Goes back to the step sizes and the moments of a state.
    pub fn go_back(&mut self, state: &State) -> Result<(), TrainError> {
        self.scales = Arc::new(self.scales_in(state, SCALES)?);
        let ids = self.scales.iter();
        let ids = ids.map(|(path, scale)| (self.full_path(path), scale.id));
        let optim = state.optimizer(&ids.collect(), adamw())?;
        let record = optim.to_record();
        self.moments = match record.len() {
            0 => None,
            _ => Some(record.into_bytes().map_err(failed)?),
        };
        Ok(())
    }

    /// The step sizes that a state has of a kind.
    pub fn scales_in(&self, state: &State, kind: &str) -> Result<HostScales, TrainError> {
        let mut scales = HostScales::new();
        for (path, scale) in &*self.scales {
            let [groups, columns] = scale.data.shape()[..] else {
                continue;
            };
            let data = state.scales(kind, &self.full_path(path), [groups, columns])?;
            let id = scale.id;
            scales.insert(path.clone(), HostScale { id, data });
        }
        Ok(scales)
    }

    /// Fails if a step size is not finite; rounds them as in files, where that is wanted.
    pub fn finish(&mut self, rounds: bool) -> Result<(), TrainError> {
        let mut values = HashMap::new();
        for (path, scale) in &*self.scales {
            if !scale.data.iter::<f32>().all(f32::is_finite) {
                let path = self.full_path(path);
                return Err(QuantizeError::NotFinite { path }.into());
            }
            if rounds {
                let data = scale.data.clone().convert_dtype(DType::F16);
                values.insert(scale.id, data.convert_dtype(DType::F32));
            }
        }
        self.put(values);
        Ok(())
    }
}

/// The path of a weight in the block that it belongs to.
fn inner_path(weight: &str, block: &str) -> String {
    let inner = weight.strip_prefix(block).unwrap_or(weight);
    inner.strip_prefix('.').unwrap_or(inner).to_string()
}

fn failed(error: impl std::fmt::Display) -> TrainError {
    TrainError::Training(format!("optimizer: {error}"))
}
