//! The epochs of E2E-QP.

use super::E2eQpConfig;
use super::state::Position;
use super::trainee::Trainee;
use crate::module::packed_weights;
use crate::train::best::BestSoFar;
use crate::train::clip::{clip_grad_norm, scale_grads};
use crate::train::launch::{data_error, for_each_batch};
use crate::train::mean_step::MeanStep;
use crate::train::rates::params;
use crate::train::skips::Skips;
use crate::train::{
    CosineSchedule, DataSplit, Epoch, LearningRates, Phase, Rate, StepLoss, TrainError, TrainEvent,
};
use crate::{Bits, LayerSize, Quantize, QuantizeError};
use burn::data::dataloader::{DataLoader, Progress};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use burn::train::{InferenceStep, LearnerModel, TrainLoader, TrainStep, ValidLoader};
use std::sync::{Arc, OnceLock};

/// Who hears what happens in E2E-QP: a callback, or Burn's event processor.
///
/// `T` is what is trained, and `O` what metrics get of a batch that was trained on.
pub(in crate::train) trait Listener<M: LearnerModel, T, O = <M as TrainStep>::Output> {
    /// Anything but a batch.
    fn event(&mut self, event: TrainEvent) -> Result<(), TrainError>;

    /// A batch was trained on.
    fn trained(
        &mut self,
        epoch: Epoch,
        progress: Progress,
        iteration: usize,
        rates: Option<ModuleLearningRate>,
        loss: Tensor<1>,
        output: O,
    ) -> Result<(), TrainError>;

    /// A batch was validated.
    fn validated(
        &mut self,
        epoch: Epoch,
        progress: Progress,
        iteration: usize,
        loss: Tensor<1>,
        output: <M as InferenceStep>::Output,
    ) -> Result<(), TrainError>;

    /// An epoch is over; true where the phase ends with it.
    fn is_enough(&mut self, _trainee: &T, _epoch: usize) -> bool {
        false
    }
}

/// What a batch gives.
pub(in crate::train) struct BatchStep<O> {
    /// The loss, where no gradients are recorded.
    pub loss: Tensor<1>,
    /// What metrics get.
    pub output: O,
    pub grads: GradientsParams,
}

/// How a batch gives gradients.
pub(in crate::train) type StepOf<M, O> =
    fn(&M, <M as TrainStep>::Input) -> Result<BatchStep<O>, TrainError>;

/// How batches give gradients, some of them at a time.
pub(in crate::train) trait Steps<M: LearnerModel, O> {
    /// How many at a time.
    fn width(&self) -> usize;

    /// What these batches give, no more of them than that, in their order. Losses and gradients are where the model is.
    fn take(
        &self,
        model: M,
        batches: Vec<<M as TrainStep>::Input>,
    ) -> Result<Vec<BatchStep<O>>, TrainError>;
}

/// One batch at a time, where the model is.
pub(in crate::train) struct OneByOne<M: LearnerModel, O>(pub StepOf<M, O>);

impl<M: LearnerModel, O> Steps<M, O> for OneByOne<M, O> {
    fn width(&self) -> usize {
        1
    }

    fn take(
        &self,
        model: M,
        batches: Vec<<M as TrainStep>::Input>,
    ) -> Result<Vec<BatchStep<O>>, TrainError> {
        let batches = batches.into_iter();
        batches.map(|batch| (self.0)(&model, batch)).collect()
    }
}

/// By the model's own `TrainStep`.
pub(in crate::train) fn end_to_end<M>(
    model: &M,
    batch: <M as TrainStep>::Input,
) -> Result<BatchStep<<M as TrainStep>::Output>, TrainError>
where
    M: LearnerModel,
    <M as TrainStep>::Output: StepLoss,
{
    let step = TrainStep::step(model, batch);
    Ok(BatchStep {
        loss: step.item.loss().inner(),
        output: step.item,
        grads: step.grads,
    })
}

/// The cosine over all steps. The number of steps is known once the training data is counted; clones share it.
#[derive(Clone)]
pub(in crate::train) struct Schedule {
    config: E2eQpConfig,
    phase: Phase,
    /// As they are told.
    rates: LearningRates,
    /// The highest that the cosine has.
    highest: f64,
    steps: Arc<OnceLock<usize>>,
    done: usize,
}

impl Schedule {
    fn at(&self, step: usize) -> f64 {
        let steps = *self.steps.get().expect("counted before the first step");
        let warm_up = (self.config.warm_up * steps as f64).ceil() as usize;
        CosineSchedule::new(self.highest, self.config.final_rate, warm_up, steps).at(step)
    }

    /// The rates of a step as they are told: of the quantizer and of the weights in E2E-AP.
    fn rates_at(&self, step: usize) -> Vec<Rate> {
        let highest = match self.phase {
            Phase::E2eAp => vec![self.rates.e2e_ap_quantizer, self.rates.e2e_ap_weights],
            Phase::BlockAp | Phase::E2eQp => vec![self.rates.e2e],
        };
        let part = match self.highest > 0.0 {
            true => self.at(step) / self.highest,
            false => 0.0,
        };
        highest.into_iter().map(|rate| rate.times(part)).collect()
    }
}

impl Schedule {
    /// For a model of that many parameters, and these packed weights with this mean step size.
    pub fn new(
        config: &E2eQpConfig,
        params: usize,
        layers: &[LayerSize],
        mean: &MeanStep,
    ) -> Result<Self, TrainError> {
        let bits = layers
            .iter()
            .map(|layer| (layer.scheme.bits, layer.weights));
        let bits = most_bits(bits).ok_or(TrainError::NoPackedWeights)?;
        let rates = config.rates(params, bits);
        let highest = rates.e2e.of(mean.value());
        Ok(Self::of(Phase::E2eQp, config, rates, highest))
    }

    /// For a phase with these rates, one of which the cosine begins with.
    pub fn of(phase: Phase, config: &E2eQpConfig, rates: LearningRates, highest: f64) -> Self {
        Schedule {
            config: config.clone(),
            phase,
            rates,
            highest,
            steps: Arc::default(),
            done: 0,
        }
    }

    /// Goes on after that many steps.
    pub fn go_on_from(&mut self, done: usize) {
        self.done = done;
    }
}

impl LrScheduler for Schedule {
    fn step(&mut self) -> f64 {
        self.done += 1;
        self.at(self.done - 1)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("done", self.done as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(done) = record.scalar::<u64>("done") {
            self.done = done as usize;
        }
    }
}

/// A packed model where only its step sizes train, and its schedule.
pub(in crate::train) fn start<M: LearnerModel>(
    config: &E2eQpConfig,
    model: M,
) -> Result<(M, Schedule), TrainError> {
    let model = model.valid();
    let mut mean = MeanStep::default();
    mean.add(&model, &|_| true);
    let schedule = Schedule::new(config, params(&model), &model.layer_sizes(), &mean)?;
    Ok((model.train_scales_only().train(), schedule))
}

/// The bits of most numbers of some weights, given the bits of each and how many numbers it has.
pub(in crate::train) fn most_bits(
    weights: impl Iterator<Item = (Bits, usize)> + Clone,
) -> Option<Bits> {
    let numbers = |of: Bits| -> usize {
        let with_bits = weights.clone().filter(|(bits, _)| *bits == of);
        with_bits.map(|(_, numbers)| numbers).sum()
    };
    [Bits::Two, Bits::Three, Bits::Four, Bits::Eight]
        .into_iter()
        .max_by_key(|bits| numbers(*bits))
        .filter(|bits| numbers(*bits) > 0)
}

/// Fails if a step size is not finite.
pub(in crate::train) fn check_finite<M: LearnerModel>(model: &M) -> Result<(), TrainError> {
    for (path, packed) in packed_weights(model) {
        if !packed.weight.scales.is_finite().all().into_scalar::<bool>() {
            return Err(QuantizeError::NotFinite { path }.into());
        }
    }
    Ok(())
}

/// State that is kept between epochs.
pub(in crate::train) struct Fit<L> {
    schedule: Schedule,
    /// Batches whose gradients are averaged for a step.
    accumulation: usize,
    pub listener: L,
    /// Steps done, with those that were left out.
    step: usize,
    skips: Skips,
}

impl<L> Fit<L> {
    pub fn new(schedule: Schedule, accumulation: usize, listener: L) -> Self {
        Self {
            skips: Skips::new(schedule.config.max_skipped),
            schedule,
            accumulation: accumulation.max(1),
            listener,
            step: 0,
        }
    }

    /// Trains for the configured epochs, from one of them on (the first is 1).
    ///
    /// A trainee that goes on with a run goes back to where that was left: in the epoch, and in the order of its batches.
    pub fn run<M, T, O>(
        &mut self,
        trainee: &mut T,
        train: TrainLoader<M>,
        valid: ValidLoader<M>,
        starting_epoch: usize,
        steps: &dyn Steps<M, O>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel,
        <M as InferenceStep>::Output: StepLoss,
        L: Listener<M, T, O>,
        T: Trainee<M>,
    {
        let config = self.schedule.config.clone();
        if config.early_stopping.is_some() && valid.num_items() == 0 {
            let message = "early_stopping of E2E-QP needs validation data, and there is none";
            return Err(TrainError::Setting(message.to_string()));
        }
        let device = trainee.device()?;
        let inner = device.clone().inner();
        // Burn's loaders shuffle each copy in its own order: the first copy is trained on, another one counted.
        let loader = train.to_device(&device.autodiff());
        // On several devices, each takes as many batches of a step.
        self.accumulation *= steps.width();
        let per_epoch = count(&*train.to_device(&inner))?.div_ceil(self.accumulation);
        let valid = valid.to_device(&inner);
        self.schedule
            .steps
            .set(per_epoch * config.epochs)
            .expect("a learner is trained once");
        let mut position = Position {
            epoch: starting_epoch,
            batches: 0,
            skipped: 0,
            step: per_epoch * (starting_epoch - 1),
            loss_sum: 0,
            worse: 0,
            best: None,
        };
        self.listener.event(TrainEvent::PhaseStart {
            phase: self.schedule.phase,
            blocks: 0,
            epochs: config.epochs,
            rates: self.schedule.rates,
        })?;
        let mut best = config.early_stopping.map(BestSoFar::new);
        if let Some((resumed, resumed_best)) = trainee.resume()? {
            position = resumed;
            let best_loss = resumed_best.as_ref().map(|best| best.loss);
            if let (Some(patience), Some(resumed)) = (config.early_stopping, resumed_best) {
                best = Some(BestSoFar::resume(
                    patience,
                    resumed.loss,
                    resumed.model,
                    resumed.worse,
                ));
            }
            // A loader shuffles anew whenever it is read.
            for _ in 1..position.epoch {
                drop((loader.iter(), valid.iter()));
            }
            let (phase, done) = (self.schedule.phase, position.step);
            let resumed = TrainEvent::Resumed {
                phase,
                done,
                best: best_loss,
            };
            self.listener.event(resumed)?;
        }
        self.step = position.step;
        for number in position.epoch..=config.epochs {
            let epoch = Epoch {
                phase: self.schedule.phase,
                block: None,
                number,
                epochs: config.epochs,
            };
            self.train(trainee, &loader, epoch, &position, best.as_ref(), steps)?;
            let loss = self.validate::<M, T, O>(&trainee.validated()?, &valid, epoch)?;
            let mut enough = self.listener.is_enough(trainee, number);
            if let (Some(loss), Some(best), false) = (loss, &mut best, enough) {
                enough = best.offer(loss, trainee.model());
            }
            let next = if enough { config.epochs } else { number };
            position = self.position(next + 1, [0, 0], 0.0);
            trainee.keep(&position, best.as_ref())?;
            if enough {
                break;
            }
        }
        let best = best.and_then(BestSoFar::into_best);
        Ok(best.unwrap_or_else(|| trainee.model()))
    }

    fn position(&self, epoch: usize, [batches, skipped]: [usize; 2], loss_sum: f64) -> Position {
        Position {
            epoch,
            batches,
            skipped,
            step: self.step,
            loss_sum: loss_sum.to_bits(),
            worse: 0,
            best: None,
        }
    }

    /// Trains on an epoch, from a position in it on.
    fn train<M, T, O>(
        &mut self,
        trainee: &mut T,
        loader: &TrainLoader<M>,
        epoch: Epoch,
        from: &Position,
        best: Option<&BestSoFar<M>>,
        steps: &dyn Steps<M, O>,
    ) -> Result<(), TrainError>
    where
        M: LearnerModel,
        L: Listener<M, T, O>,
        T: Trainee<M>,
    {
        let (split, total) = (DataSplit::Train, loader.num_items());
        self.listener.event(TrainEvent::SplitStart {
            epoch,
            split,
            total,
        })?;
        let mut accumulator = GradientsAccumulator::<T::Params>::new();
        let (mut waiting, mut skipped) = (0, from.skipped);
        // What is wrong with a batch of the step, if something is.
        let mut wrong = None;
        let (mut iteration, mut sum) = (from.batches, f64::from_bits(from.loss_sum));
        let mut iterator = loader.iter();
        for batch in iterator.by_ref().take(from.batches) {
            batch.map_err(data_error)?;
        }
        loop {
            let (mut batches, mut progress) = (Vec::new(), Vec::new());
            while batches.len() < steps.width()
                && let Some(batch) = iterator.next()
            {
                batches.push(batch.map_err(data_error)?);
                progress.push(iterator.progress());
            }
            if batches.is_empty() {
                break;
            }
            let done = steps.take(trainee.model(), batches)?;
            for (progress, done) in progress.into_iter().zip(done) {
                let BatchStep {
                    loss,
                    output,
                    grads,
                } = done;
                iteration += 1;
                let checked = self.check_loss(&loss, self.step);
                let is_finite = checked.is_ok();
                match checked {
                    Ok(loss) => {
                        sum += loss;
                        accumulator.accumulate(&trainee.params(), grads);
                    }
                    Err(error) => {
                        skipped += 1;
                        wrong = Some(error);
                    }
                }
                waiting += 1;
                if waiting >= self.accumulation {
                    let grads = accumulator.grads();
                    self.optimize(trainee, grads, waiting, wrong.take(), epoch)?;
                    waiting = 0;
                    let save_every = self.schedule.config.save_every.max(1);
                    if self.step.is_multiple_of(save_every) {
                        let position = self.position(epoch.number, [iteration, skipped], sum);
                        trainee.keep(&position, best)?;
                    }
                }
                if is_finite {
                    let rates = (self.step > 0).then(|| trainee.rates());
                    (self.listener).trained(epoch, progress, iteration, rates, loss, output)?;
                }
            }
        }
        if waiting > 0 {
            let grads = accumulator.grads();
            self.optimize(trainee, grads, waiting, wrong.take(), epoch)?;
        }
        if iteration == 0 {
            return Err(TrainError::NoData);
        }
        let loss = sum / (iteration - skipped).max(1) as f64;
        (self.listener).event(TrainEvent::SplitEnd { epoch, split, loss })
    }

    /// A step with the mean of the gradients of that many batches, clipped. It is left out if one of the batches, or the
    /// gradients, are not finite.
    fn optimize<M: LearnerModel, T: Trainee<M>, O>(
        &mut self,
        trainee: &mut T,
        grads: GradientsParams,
        batches: usize,
        wrong: Option<TrainError>,
        epoch: Epoch,
    ) -> Result<(), TrainError>
    where
        L: Listener<M, T, O>,
    {
        if let Some(error) = wrong {
            return self.skip(trainee, error, epoch);
        }
        let params = trainee.params();
        let grads = match batches {
            1 => grads,
            n => scale_grads(&params, grads, 1.0 / n as f64),
        };
        let max_norm = self.schedule.config.max_grad_norm;
        let (grads, norm) = clip_grad_norm(&params, grads, max_norm);
        let norm = trainee.norm(norm);
        // The optimizer updates in place what nobody else holds.
        drop(params);
        if !norm.is_finite() {
            let error = TrainError::Gradient {
                phase: self.schedule.phase,
                block: None,
                step: self.step + 1,
                norm,
                rates: self.schedule.rates_at(self.step),
            };
            return self.skip(trainee, error, epoch);
        }
        trainee.step(grads)?;
        self.skips.taken();
        self.step += 1;
        Ok(())
    }

    /// Leaves a step out; the schedule goes on.
    fn skip<M: LearnerModel, T: Trainee<M>, O>(
        &mut self,
        trainee: &mut T,
        error: TrainError,
        epoch: Epoch,
    ) -> Result<(), TrainError>
    where
        L: Listener<M, T, O>,
    {
        let message = self.skips.skip(error)?;
        trainee.skip();
        self.step += 1;
        self.listener.event(TrainEvent::Skipped { epoch, message })
    }

    /// Mean validation loss; `None` where there is no validation data.
    fn validate<M, T, O>(
        &mut self,
        model: &M,
        loader: &ValidLoader<M>,
        epoch: Epoch,
    ) -> Result<Option<f64>, TrainError>
    where
        M: LearnerModel,
        <M as InferenceStep>::Output: StepLoss,
        L: Listener<M, T, O>,
    {
        if loader.num_items() == 0 {
            self.listener.event(TrainEvent::EpochEnd { epoch })?;
            return Ok(None);
        }
        let model = model.valid();
        let (split, total) = (DataSplit::Valid, loader.num_items());
        self.listener.event(TrainEvent::SplitStart {
            epoch,
            split,
            total,
        })?;
        let (mut sum, mut count) = (0.0, 0);
        let mut iterator = loader.iter();
        while let Some(batch) = iterator.next() {
            let batch = batch.map_err(data_error)?;
            let progress = iterator.progress();
            let output = InferenceStep::step(&model, batch);
            let loss = output.loss();
            sum += self.check_loss(&loss, self.step.saturating_sub(1))?;
            count += 1;
            (self.listener).validated(epoch, progress, count, loss, output)?;
        }
        let mean = sum / count.max(1) as f64;
        self.listener.event(TrainEvent::SplitEnd {
            epoch,
            split,
            loss: mean,
        })?;
        self.listener.event(TrainEvent::EpochEnd { epoch })?;
        Ok((count > 0).then_some(mean))
    }

    /// The loss as a number, once it is finite; `step` is from 0.
    fn check_loss(&self, loss: &Tensor<1>, step: usize) -> Result<f64, TrainError> {
        let loss: f64 = loss.clone().into_scalar();
        if loss.is_finite() {
            return Ok(loss);
        }
        Err(TrainError::Loss {
            phase: self.schedule.phase,
            block: None,
            step: step + 1,
            loss,
            rates: self.schedule.rates_at(step),
        })
    }
}

/// The number of batches of a loader.
fn count<T>(loader: &dyn DataLoader<T>) -> Result<usize, TrainError> {
    let mut count = 0;
    for_each_batch(loader, |_| count += 1)?;
    if count == 0 {
        return Err(TrainError::NoData);
    }
    Ok(count)
}
