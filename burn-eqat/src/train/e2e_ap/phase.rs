use super::trainee::AllParameters;
use super::{E2eApConfig, offload};
use crate::module::{fake_quantized, is_under};
use crate::train::e2e_qp::{
    Callback, Fit, OneByOne, Schedule, Steps, by_blocks, end_to_end, most_bits,
};
use crate::train::param_rates::ParamRates;
use crate::train::rates;
use crate::train::trained::{is_of_quantizer, train_only, trains_by_name};
use crate::train::{Blockwise, Phase, StepLoss, TrainError, TrainEvent, catch_ops, no_store};
use crate::{Quantize, RunDir};
use burn::data::dataloader::DataLoader;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use std::sync::Arc;

/// E2E-AP: trains all parameters of the blocks end to end, weights by straight-through gradients, on the model's own loss or, as a
/// [`Student`](crate::train::Student), on its original's predictions. It comes between Block-AP and E2E-QP. Made by
/// [`E2eApConfig::init`].
///
/// A packed model has no weights that could train; [`fake_quantize_near`](Quantize::fake_quantize_near) gives it some.
///
/// In [`run`](Self::run) weights, their gradients and both moments of AdamW are in memory for all blocks: 16 bytes a weight. In
/// [`run_in_files`](Self::run_in_files) they are there for one block at a time.
#[derive(Clone, Debug)]
pub struct E2eAp {
    pub(super) config: E2eApConfig,
    pub(super) run_dir: Option<RunDir>,
}

impl E2eAp {
    /// The configuration.
    pub fn config(&self) -> &E2eApConfig {
        &self.config
    }

    /// The run directory of [`run_in_files`](Self::run_in_files), which needs one. [`run`](Self::run) keeps nothing.
    pub fn with_run_dir(mut self, run: RunDir) -> Self {
        self.run_dir = Some(run);
        self
    }

    /// Whether the run directory says that the phase is over.
    pub(crate) fn is_over(&self) -> bool {
        self.run_dir.as_ref().is_some_and(offload::is_over)
    }

    /// Trains a model with fake-quantized weights; returns it packed. The training data is read once more than there are epochs, to
    /// count its batches.
    ///
    /// The callback `on_event` gets each batch and epoch, and may stop the phase with an error.
    ///
    /// # Errors
    ///
    /// When the model has no fake-quantized weights, there is no training batch, the model's own code fails, or a loss or a gradient
    /// is not finite (the error names the step and the learning rate).
    pub fn run<M>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
        <M as TrainStep>::Output: StepLoss,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            if self.config.recompute {
                let steps = OneByOne(by_blocks::<M>);
                return self.fit(model, train, valid, on_event, &steps);
            }
            let steps = OneByOne(end_to_end::<M>);
            self.fit(model, train, valid, on_event, &steps)
        })
    }

    /// Trains a packed model whose blocks are in files (a model with [`Blockwise::store_block`] and
    /// [`outline_block`](Blockwise::outline_block)), beside its original, which is not changed; returns it packed, its blocks in files
    /// of the run directory.
    ///
    /// A block's weights, gradients and moments are in memory while it is replayed and takes its optimizer step, right behind its
    /// backward pass; before and after they are in a file, 8 bytes a weight, or 12 with [moments](E2eApConfig) in f32. So of the memory
    /// only what goes into each block grows with their number. The gradients are those of [`run`](Self::run), to rounding, but for their clipping: the norm of all is known
    /// when all blocks have had their step, so that of the step before stands for it, unless the gradients so far are larger.
    ///
    /// The run directory can go back to the state of every [`save_every`](E2eApConfig::save_every) steps. A run that goes on from
    /// there ends with the same bytes, if the loaders are made in the same way and give the same batches in the same order.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run). Also without a run directory, with a `grad_accumulation` of more than one, when a block of the model
    /// is in memory or cannot be in a file, and when a file of the run cannot be read or written.
    pub fn run_in_files<M>(
        &self,
        packed: M,
        original: &M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            let refuse = |message: &str| Err(TrainError::Setting(message.to_string()));
            let Some(run) = &self.run_dir else {
                return refuse("E2E-AP of a model with blocks in files needs a run directory");
            };
            if self.config.grad_accumulation > 1 {
                return refuse(
                    "E2E-AP of a model with blocks in files takes a step with each batch: expected a grad_accumulation of 1",
                );
            }
            let blocks = packed.blocks().len();
            if (0..blocks).any(|index| packed.is_loaded(index)) {
                return Err(no_store::<M>());
            }
            let config = E2eApConfig {
                // It changes nothing of the result.
                save_every: 0,
                ..self.config.clone()
            };
            let config = serde_json::to_value(&config);
            let config = config.map_err(|error| TrainError::Setting(error.to_string()))?;
            run.agree("e2e_ap_in_files", config)?;
            if let Some(finished) = offload::finished(run, &packed)? {
                // A loader that is shared with the next phase shuffles as if it had been read here: one copy of it is trained on, and one counted.
                let device = packed.devices().into_iter().next().unwrap_or_default();
                for loader in [&train, &train] {
                    drop(loader.to_device(&device));
                }
                drop(valid.to_device(&device));
                return Ok(finished);
            }
            let mut start = offload::start(&self.config, packed, original, run)?;
            let mut fit = Fit::new(start.schedule, 1, Callback(on_event));
            fit.run(&mut start.trainee, train, valid, 1, &start.steps)?;
            offload::finish(run, blocks)?;
            Ok(start.trainee.packed)
        })
    }

    fn fit<M, O>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
        steps: &dyn Steps<M, O>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel + Blockwise,
        <M as InferenceStep>::Output: StepLoss,
    {
        let config = &self.config;
        let weights = fake_quantized(&model);
        let bits = weights
            .iter()
            .map(|weight| (weight.scheme.bits, weight.weights));
        let bits = most_bits(bits).ok_or(TrainError::NoFakeQuantizedWeights)?;
        let rates = config.rates(rates::params(&model), bits);
        let blocks = model.blocks();
        // What is quantized, and the norms of the blocks.
        let trains = |path: &str| {
            is_of_quantizer(path)
                || weights.iter().any(|weight| weight.path == path)
                || trains_by_name(path) && blocks.iter().any(|block| is_under(path, block))
        };
        let params = ParamRates::of(&model, &trains);
        let model = train_only(model.valid().train(), &trains);
        let e2e_qp = config.as_e2e_qp();
        let schedule = Schedule::of(Phase::E2eAp, &e2e_qp, rates, 1.0);
        let mut trainee = AllParameters::new(model, schedule.clone(), rates, params);
        let mut fit = Fit::new(schedule, config.grad_accumulation, Callback(on_event));
        let model = fit.run(&mut trainee, train, valid, 1, steps)?;
        let packed = model.valid().pack()?;
        Ok(if config.round_scales {
            packed.round_scales()
        } else {
            packed
        })
    }
}
