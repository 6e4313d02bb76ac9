//! A block in training on several devices: a copy on each further one, and a thread that works with it.

use super::BlockSample;
use super::loss::BlockLoss;
use super::slope::Slope;
use crate::train::{Blockwise, TrainError, catch_ops};
use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use std::panic::resume_unwind;
use std::thread::scope;

/// Copies of a model on all devices but the first, where the model itself is.
pub(super) struct Copies<M> {
    devices: Vec<Device>,
    models: Vec<M>,
}

impl<M: Blockwise> Copies<M> {
    /// Copies of a model as it is now; none for one device.
    pub fn of(model: &M, devices: &[Device]) -> Self {
        let others = devices.iter().skip(1);
        Self {
            devices: devices.to_vec(),
            models: others.map(|device| model.clone().fork(device)).collect(),
        }
    }

    /// The copies, in the order of their devices.
    pub fn models(&mut self) -> &mut [M] {
        &mut self.models
    }

    /// The mean loss of samples, one of each device in their order, and its gradients. The devices work at the same time.
    pub fn slope(
        &mut self,
        model: &M,
        loss: &BlockLoss,
        samples: Vec<BlockSample<M>>,
    ) -> Result<Slope, TrainError> {
        let mut samples = samples.into_iter();
        let first = samples.next().ok_or(TrainError::NoData)?;
        let slopes = scope(|scope| {
            let others = samples.zip(&mut self.models);
            let others = others.map(|(sample, copy)| {
                let copy = &mut *copy;
                scope.spawn(move || catch_ops(|| Slope::of(copy, loss, sample)))
            });
            let others: Vec<_> = others.collect();
            let mut slopes = vec![Slope::of(model, loss, first)];
            for other in others {
                slopes.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            slopes.into_iter().collect::<Result<Vec<_>, _>>()
        })?;
        Ok(Slope::mean(model, &self.devices[0], slopes))
    }

    /// Brings what trains to the copies, after a step.
    pub fn refresh(&mut self, model: &M) {
        let devices = self.devices.iter().skip(1);
        for (copy, device) in self.models.iter_mut().zip(devices) {
            let mut values = Values(GradientsParams::new(), device);
            model.visit(&mut values);
            *copy = copy.clone().map(&mut values);
        }
    }
}

/// The values of the parameters that train, on a device, in a container that Burn makes for their gradients.
struct Values<'a>(GradientsParams, &'a Device);

impl ModuleVisitor for Values<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let value = param.base().inner();
            self.0.register(param.id, value.to_device(self.1));
        }
    }
}

impl ModuleMapper for Values<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove::<D>(param.id) {
            Some(value) => param.map(|_| Tensor::from_inner(value).require_grad()),
            None => param,
        }
    }
}
