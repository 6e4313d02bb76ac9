//! E2E-QP: the whole model, step sizes only (the paper's section 3.3).

use super::best::BestSoFar;
use super::clip::{clip_grad_norm, scale_grads};
use super::error::{ErrorSlot, check_loss};
use super::optimizer::adamw;
use super::{CosineSchedule, StepLoss, TrainError};
use crate::{Bits, Quantize, Scheme};
use burn::config::Config;
use burn::data::dataloader::Progress;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent, LearnerModel,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainStep,
    TrainingComponents, TrainingItem, ValidLoader,
};

/// Configuration of E2E-QP, initialised with the [init function](E2eQpConfig::init). The defaults are
/// the paper's.
#[derive(Config, Debug)]
pub struct E2eQpConfig {
    /// The scheme of the packed weights.
    pub scheme: Scheme,
    /// Highest learning rate of the step sizes; 2e-5 for 2 bits and 1e-5 for more where it is absent.
    /// It is absolute, so it has to fit the size of the step sizes.
    #[config(default = "None")]
    pub learning_rate: Option<f64>,
    /// Part of the steps in which the rate rises to its highest.
    #[config(default = 0.03)]
    pub warm_up: f64,
    /// What is left of the rate at the end of the cosine.
    #[config(default = 0.0)]
    pub final_rate: f64,
    /// Largest norm of all gradients of a step together.
    #[config(default = 0.3)]
    pub max_grad_norm: f64,
    /// Batches whose gradients are averaged for a step.
    #[config(default = 1)]
    pub grad_accumulation: usize,
    /// Passes over the training data.
    #[config(default = 1)]
    pub epochs: usize,
    /// Stop after that many epochs without a better validation loss, and give the model its best step
    /// sizes back. Needs validation data.
    #[config(default = "None")]
    pub early_stopping: Option<usize>,
}

impl E2eQpConfig {
    /// The phase.
    pub fn init(&self) -> E2eQp {
        E2eQp {
            config: self.clone(),
            error: ErrorSlot::default(),
        }
    }

    /// Highest learning rate.
    pub fn rate(&self) -> f64 {
        self.learning_rate.unwrap_or(match self.scheme.bits {
            Bits::Two => 2e-5,
            _ => 1e-5,
        })
    }
}

/// E2E-QP: trains the step sizes of a packed model, end to end, on its own loss.
///
/// Everything else is frozen: the codes and zero points are integers, and [`learner`](Self::learner)
/// freezes the rest. A strategy of Burn's `SupervisedTraining`; the batches are those of the model's
/// `TrainStep`. Made by [`E2eQpConfig::init`].
#[derive(Clone, Debug)]
pub struct E2eQp {
    config: E2eQpConfig,
    error: ErrorSlot,
}

impl E2eQp {
    /// The configuration.
    pub fn config(&self) -> &E2eQpConfig {
        &self.config
    }

    /// The error that stopped the last training this strategy was used for, if one did.
    pub fn take_error(&self) -> Option<TrainError> {
        self.error.take()
    }

    /// A learner for a packed model: only its step sizes train, with AdamW without weight decay and a
    /// cosine over all steps. `batches` is how many batches an epoch has.
    pub fn learner<M: LearnerModel>(&self, model: M, batches: usize) -> Learner<M> {
        let config = &self.config;
        let steps = batches.div_ceil(config.grad_accumulation.max(1)) * config.epochs;
        let warm_up = (config.warm_up * steps as f64).ceil() as usize;
        let schedule = CosineSchedule::new(config.rate(), config.final_rate, warm_up, steps);
        let model = model.valid().train_scales_only().train();
        Learner::new(model, adamw(), schedule)
    }
}

/// A failure stops the training, with the error in [`E2eQp::take_error`]. The epochs are those of the
/// configuration; checkpoints, early stopping and gradient accumulation that are set on the training
/// itself hold too.
impl<M> SupervisedLearningStrategy<M> for E2eQp
where
    M: LearnerModel,
    <M as TrainStep>::Output: StepLoss,
    <M as InferenceStep>::Output: StepLoss,
{
    fn fit(
        &self,
        components: TrainingComponents<M>,
        mut learner: Learner<M>,
        dataloader_train: TrainLoader<M>,
        dataloader_valid: ValidLoader<M>,
        starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let mut checkpointer = components.checkpointer;
        let mut early_stopping = components.early_stopping;
        let event_store = components.event_store;
        let mut run = Run {
            accumulation: components
                .grad_accumulation
                .unwrap_or(self.config.grad_accumulation),
            config: &self.config,
            processor: components.event_processor,
            interrupter: components.interrupter,
            step: 0,
        };
        let device = learner.model().devices()[0].clone();
        let train = dataloader_train.to_device(&device.clone().autodiff());
        let valid = dataloader_valid.to_device(&device.inner());
        let mut best = self.config.early_stopping.map(BestSoFar::new);
        for epoch in starting_epoch..=self.config.epochs {
            let result = run
                .train(&mut learner, &train, epoch)
                .and_then(|()| run.validate(&learner.model(), &valid, epoch));
            let loss = match result {
                Ok(loss) => loss,
                Err(error) => {
                    run.interrupter.stop(Some(&error.to_string()));
                    self.error.put(error);
                    break;
                }
            };
            if checkpointer.is_some() || early_stopping.is_some() {
                let flushed = run.processor.flush();
                run.interrupter.fail_on_error(flushed);
            }
            if let Some(checkpointer) = &mut checkpointer {
                checkpointer.checkpoint(&learner, epoch, &event_store);
            }
            if let Some(early_stopping) = &mut early_stopping
                && early_stopping.should_stop(epoch, &event_store)
            {
                break;
            }
            if let (Some(loss), Some(best)) = (loss, &mut best)
                && best.offer(loss, learner.model())
            {
                break;
            }
        }
        let best = best.and_then(BestSoFar::into_best);
        let model = best.unwrap_or_else(|| learner.model());
        (model, run.processor)
    }
}

/// What lasts from one epoch to the next.
struct Run<'a, M: LearnerModel> {
    config: &'a E2eQpConfig,
    /// Batches whose gradients are averaged for a step.
    accumulation: usize,
    processor: SupervisedTrainingEventProcessor<M>,
    interrupter: Interrupter,
    /// Optimizer steps done.
    step: usize,
}

impl<M> Run<'_, M>
where
    M: LearnerModel,
    <M as TrainStep>::Output: StepLoss,
    <M as InferenceStep>::Output: StepLoss,
{
    fn train(
        &mut self,
        learner: &mut Learner<M>,
        loader: &TrainLoader<M>,
        epoch_number: usize,
    ) -> Result<(), TrainError> {
        self.tell_train(LearnerEvent::StartSplit {
            epoch_number,
            total_items: loader.num_items(),
        })?;
        let mut accumulator = GradientsAccumulator::new();
        let mut waiting = 0;
        let mut iterator = loader.iter();
        let mut iteration = 0;
        while let Some(batch) = iterator.next() {
            let batch = batch.map_err(|error| TrainError::Data(error.to_string()))?;
            let progress = iterator.progress();
            iteration += 1;
            let output = learner.train_step(batch);
            let loss: f64 = output.item.loss().inner().into_scalar();
            let rate = self.config.rate();
            check_loss(
                loss,
                || "E2E-QP".to_string(),
                self.step + 1,
                || format!("up to {rate:e}"),
            )?;
            accumulator.accumulate(&learner.model(), output.grads);
            waiting += 1;
            if waiting >= self.accumulation {
                self.optimize(learner, accumulator.grads(), waiting)?;
                waiting = 0;
            }
            let rates = (self.step > 0).then(|| learner.lr_current());
            let item = TrainingItem::new(output.item, progress, Some(iteration), rates);
            self.tell_train(LearnerEvent::ProcessedItem(item))?;
        }
        if waiting > 0 {
            self.optimize(learner, accumulator.grads(), waiting)?;
        }
        match iteration {
            0 => Err(TrainError::NoData),
            _ => self.tell_train(LearnerEvent::EndSplit(epoch_number)),
        }
    }

    /// A step with the mean of the gradients of that many batches, clipped.
    fn optimize(
        &mut self,
        learner: &mut Learner<M>,
        grads: GradientsParams,
        batches: usize,
    ) -> Result<(), TrainError> {
        let model = learner.model();
        let grads = match batches {
            1 => grads,
            n => scale_grads(&model, grads, 1.0 / n as f64),
        };
        let (grads, norm) = clip_grad_norm(&model, grads, self.config.max_grad_norm);
        if !norm.is_finite() {
            let step = self.step + 1;
            return Err(TrainError::Gradient { step, norm });
        }
        // The optimizer updates in place where it holds the only reference.
        drop(model);
        learner.lr_step();
        learner.optimizer_step(grads);
        self.step += 1;
        Ok(())
    }

    /// Mean validation loss; `None` where there is no validation data.
    fn validate(
        &mut self,
        model: &M,
        loader: &ValidLoader<M>,
        epoch_number: usize,
    ) -> Result<Option<f64>, TrainError> {
        let model = model.valid();
        self.tell_valid(LearnerEvent::StartSplit {
            epoch_number,
            total_items: loader.num_items(),
        })?;
        let (mut sum, mut count) = (0.0, 0);
        let mut iterator = loader.iter();
        while let Some(batch) = iterator.next() {
            let batch = batch.map_err(|error| TrainError::Data(error.to_string()))?;
            let progress: Progress = iterator.progress();
            let output = InferenceStep::step(&model, batch);
            let loss: f64 = output.loss().into_scalar();
            let rate = self.config.rate();
            check_loss(
                loss,
                || "E2E-QP (validation)".to_string(),
                self.step,
                || format!("up to {rate:e}"),
            )?;
            sum += loss;
            count += 1;
            let item = TrainingItem::new(output, progress, Some(count), None);
            self.tell_valid(LearnerEvent::ProcessedItem(item))?;
        }
        self.tell_valid(LearnerEvent::EndSplit(epoch_number))?;
        self.tell_train(LearnerEvent::EndEpoch(epoch_number))?;
        Ok((count > 0).then(|| sum / count as f64))
    }

    fn tell_train(
        &mut self,
        event: LearnerEvent<<M as TrainStep>::Output>,
    ) -> Result<(), TrainError> {
        let result = self.processor.process_train(event);
        self.interrupter.fail_on_error(result);
        self.check_stop()
    }

    fn tell_valid(
        &mut self,
        event: LearnerEvent<<M as InferenceStep>::Output>,
    ) -> Result<(), TrainError> {
        let result = self.processor.process_valid(event);
        self.interrupter.fail_on_error(result);
        self.check_stop()
    }

    fn check_stop(&self) -> Result<(), TrainError> {
        match self.interrupter.should_stop() {
            true => Err(TrainError::Interrupted),
            false => Ok(()),
        }
    }
}
