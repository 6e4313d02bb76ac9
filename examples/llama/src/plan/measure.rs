//! How long a run takes, from one step of one block.

use super::PlanInputs;
use super::shape::{Matrix, ModelShape};
use crate::LlamaConfig;
use crate::error::Error;
use crate::model::Llama;
use crate::quantize::E2eQpSettings;
use burn::module::Module;
use burn::tensor::{DType, Device, Distribution, FloatDType, Int, Tensor};
use burn_eqat::lm::TokenBatch;
use burn_eqat::train::{
    BlockApConfig, BlockRates, BlockSample, BlockStep, BlockTrainer, Blockwise, ModelError,
    TrainError,
};
use burn_eqat::{Quantize, SchemeOverride, Schemes, StartValues};
use serde::Serialize;
use std::time::Instant;

/// Seconds of the parts of a run, each of one block and one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeasuredSteps {
    /// A training step of Block-AP.
    pub block_ap_step: f64,
    /// A batch of Block-AP through a block without training.
    pub block_ap_forward: f64,
    /// A batch of E2E-QP through a packed block, forward and backward, once more forward where it is recomputed.
    pub e2e_qp_step: f64,
    /// A batch of E2E-QP through a packed block without training.
    pub e2e_qp_forward: f64,
    /// A batch of E2E-QP through the output layer, forward and backward.
    pub e2e_qp_head: f64,
}

/// Seconds of the phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PlannedTimes {
    /// What was measured.
    pub steps: MeasuredSteps,
    /// Block-AP; 0 where it does not run.
    pub block_ap: f64,
    /// E2E-AP, reckoned from a step of Block-AP; 0 where it does not run.
    pub e2e_ap: f64,
    /// E2E-QP; 0 where it does not run.
    pub e2e_qp: f64,
}

/// Runs a step of each phase on one block of the model's shape with random weights, and reckons what the phases take. Loading,
/// saving and measuring perplexity come on top. Of several devices one is measured, as if it did all of the work.
///
/// # Errors
///
/// When the scheme does not fit, or the device fails.
pub fn measure(inputs: &PlanInputs, device: &Device) -> Result<PlannedTimes, Error> {
    let settings = &inputs.settings;
    let config = LlamaConfig {
        num_hidden_layers: 1,
        ..inputs.config.clone()
    };
    settings.dtype.check(device)?;
    let (overrides, schemes) = of_first_block(inputs)?;
    let bench = Bench {
        inputs,
        overrides,
        schemes,
        device,
    };
    let model = || as_stored(config.init(device), inputs.file).with_compute_type(settings.dtype);
    let mut steps = MeasuredSteps::default();
    if let Some(phase) = settings.block_ap {
        let windows = phase.batch_size.min(phase.train_size);
        (steps.block_ap_step, steps.block_ap_forward) = bench.block_ap(model(), windows)?;
    }
    if let Some(phase) = settings.e2e_qp {
        let windows = phase.e2e_batch.min(phase.e2e_size);
        bench.e2e_qp(model(), windows, &mut steps)?;
    }
    Ok(steps.times(inputs))
}

/// The schemes of the first block: an override of another would match nothing in a model of one.
fn of_first_block(inputs: &PlanInputs) -> Result<(Vec<SchemeOverride>, Schemes), Error> {
    let shape = ModelShape::new(&inputs.config, &inputs.schemes)?;
    let paths: Vec<&str> = match shape.blocks.first() {
        Some(block) => block.matrices.iter().map(Matrix::path).collect(),
        None => Vec::new(),
    };
    let mut overrides = inputs.settings.overrides.clone();
    overrides.retain(|one| paths.iter().any(|path| one.matches(path)));
    let schemes = paths
        .iter()
        .fold(Schemes::new(inputs.settings.scheme), |schemes, path| {
            schemes.with_path(path, inputs.schemes.of(path))
        });
    Ok((overrides, schemes))
}

/// The model, whose embedding and output layer are in the type of the files.
fn as_stored(mut llama: Llama, dtype: DType) -> Llama {
    let cast = |weight: Tensor<2>| weight.cast(FloatDType::from(dtype));
    let embedding = &mut llama.model.embed_tokens;
    embedding.weight = embedding.weight.clone().map(cast);
    if let Some(head) = &mut llama.lm_head {
        head.weight = head.weight.clone().map(cast);
    }
    llama
}

impl MeasuredSteps {
    /// What the phases take of such steps.
    pub(super) fn times(self, inputs: &PlanInputs) -> PlannedTimes {
        let settings = &inputs.settings;
        let blocks = inputs.config.num_hidden_layers as f64;
        let batches = |samples: usize, batch: usize| samples.div_ceil(batch.max(1)) as f64;
        let block_ap = settings.block_ap.map_or(0.0, |phase| {
            let train = batches(phase.train_size, phase.batch_size);
            let valid = batches(settings.val_size, phase.batch_size);
            let epochs = phase.epochs as f64;
            // All samples go through the original block and through the packed one.
            let through = 1.0 + (phase.lookahead as f64).min(blocks - 1.0);
            let forward = 2.0 * (train + valid) + epochs * valid * through;
            // Blocks ahead have no gradients of weights: half of a step.
            let step = 0.5 + 0.5 * through;
            // Start values are searched for with a few batches.
            let searched = match phase.start {
                StartValues::MinMax => 0.0,
                StartValues::Searched => train.min(16.0),
            };
            let steps = epochs * train + searched;
            blocks * (steps * step * self.block_ap_step + forward * self.block_ap_forward)
        });
        // Training and validation of an end-to-end phase, whose steps and forward passes of a block take this long.
        let end_to_end = |phase: E2eQpSettings, epochs: usize, step: f64, forward: f64| {
            if epochs == 0 {
                return 0.0;
            }
            let train = batches(phase.e2e_size, phase.e2e_batch) * epochs as f64;
            // Before the phase and after each epoch.
            let valid = batches(settings.val_size, phase.e2e_batch) * (1 + epochs) as f64;
            let forward = blocks * forward + self.e2e_qp_head / 2.0;
            let taught = match phase.distillation {
                Some(_) => forward,
                None => 0.0,
            };
            let step = blocks * step + self.e2e_qp_head;
            train * (step + taught) + valid * (forward + taught)
        };
        let e2e_ap = settings.e2e_qp.zip(settings.block_ap);
        let e2e_ap = e2e_ap.map_or(0.0, |(phase, block_ap)| {
            let windows = |batch: usize, samples: usize| batch.min(samples).max(1) as f64;
            let times = windows(phase.e2e_batch, phase.e2e_size)
                / windows(block_ap.batch_size, block_ap.train_size);
            let epochs = phase.e2e_ap.map_or(0, |phase| phase.epochs);
            let (step, forward) = (self.block_ap_step, self.block_ap_forward);
            end_to_end(phase, epochs, times * step, times * forward)
        });
        let e2e_qp = settings.e2e_qp.map_or(0.0, |phase| {
            end_to_end(
                phase,
                phase.e2e_epochs,
                self.e2e_qp_step,
                self.e2e_qp_forward,
            )
        });
        PlannedTimes {
            steps: self,
            block_ap,
            e2e_ap,
            e2e_qp,
        }
    }
}

/// Where steps are measured.
struct Bench<'a> {
    inputs: &'a PlanInputs,
    overrides: Vec<SchemeOverride>,
    schemes: Schemes,
    device: &'a Device,
}

impl Bench<'_> {
    /// Seconds of the second of two runs: the first makes kernels, and the state of an optimizer.
    fn second(&self, mut run: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
        let mut seconds = 0.0;
        for _ in 0..2 {
            self.wait()?;
            let start = Instant::now();
            run()?;
            self.wait()?;
            seconds = start.elapsed().as_secs_f64();
        }
        Ok(seconds)
    }

    fn wait(&self) -> Result<(), Error> {
        self.device
            .sync()
            .map_err(|error| model(error.to_string().into()))
    }

    fn hidden(&self, windows: usize) -> Tensor<3> {
        let shape = [
            windows,
            self.inputs.settings.seq_len,
            self.inputs.config.hidden_size,
        ];
        let hidden = Tensor::random(shape, Distribution::Normal(0.0, 1.0), self.device);
        self.inputs.settings.dtype.cast(hidden)
    }

    fn block_ap(&self, llama: Llama, windows: usize) -> Result<(f64, f64), Error> {
        let scheme = self.inputs.settings.scheme;
        let config = BlockApConfig::new(scheme, Llama::quantized_weights())
            .with_overrides(self.overrides.clone());
        let (input, target) = (self.hidden(windows), self.hidden(windows));
        let forward = self.second(|| {
            let output = llama.run_block(0, input.clone(), &());
            output.map(drop).map_err(model)
        })?;
        let mut trainer = BlockTrainer::new(llama, 0, &config)?;
        let step = self.second(|| {
            let sample = BlockSample {
                input: input.clone(),
                target: target.clone(),
                context: (),
            };
            // Nothing is to be learned from random numbers.
            let rates = BlockRates {
                quantizer: 0.0.into(),
                weights: 0.0.into(),
            };
            match trainer.step(sample, rates)? {
                BlockStep::Taken { .. } => Ok(()),
                BlockStep::Loss(value) | BlockStep::Gradient(value) => Err(model(
                    format!("a step on random weights came to {value}").into(),
                )),
            }
        })?;
        Ok((step, forward))
    }

    fn e2e_qp(&self, llama: Llama, windows: usize, steps: &mut MeasuredSteps) -> Result<(), Error> {
        let packed = llama.quantize_rtn(&Llama::quantized_weights(), &self.schemes)?;
        let input = self.hidden(windows);
        steps.e2e_qp_forward = self.second(|| {
            let output = packed.run_block(0, input.clone(), &());
            output.map(drop).map_err(model)
        })?;
        let training = packed.train_scales_only().train();
        let leaf = || input.clone().autodiff().require_grad();
        let recompute = self
            .inputs
            .settings
            .e2e_qp
            .is_some_and(|phase| phase.recompute);
        let again = if recompute || self.inputs.offloads() {
            steps.e2e_qp_forward
        } else {
            0.0
        };
        steps.e2e_qp_step = again
            + self.second(|| {
                let output = training.run_block(0, leaf(), &()).map_err(model)?;
                output.sum().backward();
                Ok(())
            })?;
        let seq_len = self.inputs.settings.seq_len;
        let tokens = Tensor::<2, Int>::zeros([windows, seq_len], self.device);
        steps.e2e_qp_head = self.second(|| {
            let tokens = tokens.clone().autodiff();
            let loss = training.output_loss(leaf(), &(), TokenBatch::from(tokens));
            loss.map_err(model)?.backward();
            Ok(())
        })?;
        Ok(())
    }
}

fn model(error: ModelError) -> Error {
    TrainError::Model(error).into()
}
