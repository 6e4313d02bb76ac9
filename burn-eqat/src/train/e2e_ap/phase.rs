use super::E2eApConfig;
use super::trainee::AllParameters;
use crate::Quantize;
use crate::module::{fake_quantized, is_under};
use crate::train::e2e_qp::{Callback, Fit, OneByOne, Schedule, Steps, by_blocks, end_to_end};
use crate::train::trained::{is_of_quantizer, train_only, trains_by_name};
use crate::train::{Blockwise, LearningRates, Phase, StepLoss, TrainError, TrainEvent, catch_ops};
use burn::data::dataloader::DataLoader;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use std::sync::Arc;

/// E2E-AP: trains all parameters of the blocks end to end, weights by straight-through gradients, on the model's own loss or, as a
/// [`Student`](crate::train::Student), on its original's predictions. It comes between Block-AP and E2E-QP. Made by
/// [`E2eApConfig::init`].
///
/// A packed model has no weights that could train; [`fake_quantize_near`](Quantize::fake_quantize_near) gives it some.
///
/// Weights, their gradients and both moments of AdamW are in memory for all blocks: 16 bytes a weight.
#[derive(Clone, Debug)]
pub struct E2eAp {
    pub(super) config: E2eApConfig,
}

impl E2eAp {
    /// The configuration.
    pub fn config(&self) -> &E2eApConfig {
        &self.config
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
        if weights.is_empty() {
            return Err(TrainError::NoFakeQuantizedWeights);
        }
        let blocks = model.blocks();
        // What is quantized, and the norms of the blocks.
        let model = train_only(model.valid().train(), &|path| {
            is_of_quantizer(path)
                || weights.iter().any(|weight| weight == path)
                || trains_by_name(path) && blocks.iter().any(|block| is_under(path, block))
        });
        let rates = LearningRates {
            quantizer: config.quant_learning_rate,
            weights: config.weight_learning_rate,
            e2e: 0.0,
        };
        let e2e_qp = config.as_e2e_qp();
        let schedule = Schedule::of(Phase::E2eAp, &e2e_qp, rates, 1.0);
        let mut trainee = AllParameters::new(model, schedule.clone(), rates);
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
