//! A model as Burn's multi-device step has it: what goes in and comes out is numbered, and an error comes out too.

use super::fit::{BatchStep, StepOf};
use crate::train::{TrainError, catch_ops};
use burn::module::{Module, ModuleMapper, ModuleVisitor};
use burn::optim::GradientsParams;
use burn::tensor::{Device, ExecutionError, Tensor};
use burn::train::{InferenceStep, ItemLazy, LearnerModel, TrainOutput, TrainStep};
use core::fmt;

/// A model that a worker gets. It is the model in all that a module does; Burn's derive asks more of a generic field than a
/// model in training has to be.
#[derive(Clone, Debug)]
pub(super) struct Worker<M> {
    pub model: M,
}

impl<M: Module> Module for Worker<M> {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.model.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        let model = self.model.fork(device);
        Self { model }
    }

    fn to_device(self, device: &Device) -> Self {
        let model = self.model.to_device(device);
        Self { model }
    }

    fn train(self) -> Self {
        let model = self.model.train();
        Self { model }
    }

    fn valid(&self) -> Self {
        let model = self.model.valid();
        Self { model }
    }

    fn materialize(self) -> Self {
        let model = self.model.materialize();
        Self { model }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.model.visit(visitor);
    }

    fn map<F: ModuleMapper>(self, mapper: &mut F) -> Self {
        let model = self.model.map(mapper);
        Self { model }
    }
}

impl<M: fmt::Display> fmt::Display for Worker<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(f)
    }
}

/// A batch of a step.
pub(super) struct Share<M: LearnerModel> {
    /// Its place among those of the step.
    pub number: usize,
    pub batch: <M as TrainStep>::Input,
    pub step: StepOf<M, ()>,
}

/// What came of a batch, beside its gradients.
pub(super) struct Outcome {
    pub number: usize,
    pub loss: Result<Tensor<1>, TrainError>,
}

impl ItemLazy for Outcome {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl<M: LearnerModel> TrainStep for Worker<M> {
    type Input = Share<M>;
    type Output = Outcome;

    fn step(&self, share: Share<M>) -> TrainOutput<Outcome> {
        let Share {
            number,
            batch,
            step,
        } = share;
        let (loss, grads) = match catch_ops(|| step(&self.model, batch)) {
            Ok(BatchStep { loss, grads, .. }) => (Ok(loss), grads),
            Err(error) => (Err(error), GradientsParams::new()),
        };
        TrainOutput {
            grads,
            item: Outcome { number, loss },
        }
    }
}

/// No worker validates.
impl<M: LearnerModel> InferenceStep for Worker<M> {
    type Input = <M as InferenceStep>::Input;
    type Output = <M as InferenceStep>::Output;

    fn step(&self, batch: Self::Input) -> Self::Output {
        InferenceStep::step(&self.model, batch)
    }
}
