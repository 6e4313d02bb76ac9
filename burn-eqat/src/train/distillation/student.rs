use super::{DistillationConfig, Teacher};
use crate::StoredBlock;
use crate::train::{Blockwise, ModelError, QatOutput, TrainError};
use burn::module::{Module, ModuleMapper, ModuleVisitor};
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use core::fmt;

/// A model with its [`Teacher`]: the same model in all that a module and [`Blockwise`] do, but its loss is the model's
/// [`distillation_loss`](Blockwise::distillation_loss). So E2E-QP trains it as it trains any model.
///
/// ```no_run
/// # use burn::data::dataloader::DataLoader;
/// # use burn::train::{InferenceStep, LearnerModel, TrainStep};
/// # use burn_eqat::train::{Blockwise, TrainError};
/// # use std::sync::Arc;
/// use burn_eqat::train::{DistillationConfig, E2eQpConfig, Student, Teacher};
///
/// # type Loader<M> = Arc<dyn DataLoader<<M as Blockwise>::Batch>>;
/// # fn tune<M>(original: M, packed: M, train: Loader<M>, valid: Loader<M>) -> Result<M, TrainError>
/// # where
/// #     M: Blockwise + core::fmt::Display + 'static,
/// # {
/// let student = Student::new(packed, Teacher::new(original), DistillationConfig::new())?;
/// let tuned = E2eQpConfig::new().init().run(student, train, valid, &mut |_| Ok(()))?;
/// Ok(tuned.into_model())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Student<M> {
    model: M,
    teacher: Teacher<M>,
    config: DistillationConfig,
}

impl<M: Blockwise> Student<M> {
    /// A model that learns from its original, which is of the same type.
    ///
    /// # Errors
    ///
    /// When the configuration makes no sense, or the model [does not say](Blockwise::distills) how it learns.
    pub fn new(
        model: M,
        teacher: Teacher<M>,
        config: DistillationConfig,
    ) -> Result<Self, TrainError> {
        config.check()?;
        if !model.distills() {
            let name = core::any::type_name::<M>();
            let message = format!(
                "{name} has no loss to learn from its original: implement Blockwise::distills and distillation_loss"
            );
            return Err(TrainError::Setting(message));
        }
        Ok(Self {
            model,
            teacher,
            config,
        })
    }

    /// The model alone.
    pub fn into_model(self) -> M {
        self.model
    }

    /// The model's loss of a batch, from the output of its last block.
    fn loss(
        &self,
        hidden: M::Hidden,
        context: &M::Context,
        batch: M::Batch,
    ) -> Result<Tensor<1>, ModelError> {
        self.teacher.teach(batch.clone(), self.config, |lesson| {
            self.model.distillation_loss(hidden, context, batch, lesson)
        })
    }

    fn step(&self, batch: M::Batch) -> Result<Tensor<1>, ModelError> {
        let (mut hidden, context) = self.model.embed(batch.clone())?;
        for index in 0..self.model.blocks().len() {
            hidden = self.model.run_block(index, hidden, &context)?;
        }
        self.loss(hidden, &context, batch)
    }

    /// Burn's steps give no error back: what a phase catches says it.
    fn step_or_panic(&self, batch: M::Batch) -> QatOutput {
        let loss = self.step(batch);
        QatOutput::new(loss.unwrap_or_else(|error| panic!("{error}")))
    }
}

impl<M: Blockwise> TrainStep for Student<M> {
    type Input = M::Batch;
    type Output = QatOutput;

    fn step(&self, batch: M::Batch) -> TrainOutput<QatOutput> {
        let output = self.step_or_panic(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl<M: Blockwise> InferenceStep for Student<M> {
    type Input = M::Batch;
    type Output = QatOutput;

    fn step(&self, batch: M::Batch) -> QatOutput {
        self.step_or_panic(batch)
    }
}

/// The model; the teacher is beside it where gradients are recorded, and no part of it.
impl<M: Blockwise> Module for Student<M> {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.model.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self {
            model: self.model.fork(device),
            teacher: self.teacher.to_device(device),
            config: self.config,
        }
    }

    fn to_device(self, device: &Device) -> Self {
        Self {
            model: self.model.to_device(device),
            teacher: self.teacher.to_device(device),
            config: self.config,
        }
    }

    fn train(self) -> Self {
        Self {
            model: self.model.train(),
            teacher: self.teacher.train(),
            config: self.config,
        }
    }

    fn valid(&self) -> Self {
        Self {
            model: self.model.valid(),
            teacher: self.teacher.valid(),
            config: self.config,
        }
    }

    fn materialize(self) -> Self {
        Self {
            model: self.model.materialize(),
            ..self
        }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.model.visit(visitor);
    }

    fn map<F: ModuleMapper>(self, mapper: &mut F) -> Self {
        Self {
            model: self.model.map(mapper),
            ..self
        }
    }
}

impl<M: fmt::Display> fmt::Display for Student<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(f)
    }
}

impl<M: Blockwise> Blockwise for Student<M> {
    type Batch = M::Batch;
    type Hidden = M::Hidden;
    type Context = M::Context;

    fn blocks(&self) -> Vec<String> {
        self.model.blocks()
    }

    fn embed(&self, batch: M::Batch) -> Result<(M::Hidden, M::Context), ModelError> {
        self.model.embed(batch)
    }

    fn run_block(
        &self,
        index: usize,
        hidden: M::Hidden,
        context: &M::Context,
    ) -> Result<M::Hidden, ModelError> {
        self.model.run_block(index, hidden, context)
    }

    fn reconstruction_error(
        &self,
        index: usize,
        output: M::Hidden,
        target: M::Hidden,
    ) -> Tensor<1> {
        self.model.reconstruction_error(index, output, target)
    }

    fn output_loss(
        &self,
        hidden: M::Hidden,
        context: &M::Context,
        batch: M::Batch,
    ) -> Result<Tensor<1>, ModelError> {
        self.loss(hidden, context, batch)
    }

    fn rows_are_samples(&self) -> bool {
        self.model.rows_are_samples()
    }

    fn batch_to_device(batch: M::Batch, device: &Device) -> Result<M::Batch, ModelError> {
        M::batch_to_device(batch, device)
    }

    fn is_loaded(&self, index: usize) -> bool {
        self.model.is_loaded(index)
    }

    fn outline(&self) -> Option<Self> {
        let model = self.model.outline()?;
        Some(Self {
            model,
            ..self.clone()
        })
    }

    fn load_block(&mut self, index: usize) -> Result<(), ModelError> {
        self.model.load_block(index)
    }

    fn outline_block(&mut self, index: usize) {
        self.model.outline_block(index);
    }

    fn store_block(&mut self, index: usize, block: StoredBlock) -> bool {
        self.model.store_block(index, block)
    }

    fn stored_block(&self, index: usize) -> Option<StoredBlock> {
        self.model.stored_block(index)
    }
}
