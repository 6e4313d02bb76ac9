use super::usage::Meter;
use super::{Method, QuantizeSettings};
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::{DecoderBlock, Llama};
use burn::tensor::Device;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::renderer::MetricsRenderer;
use burn::train::{Interrupter, SupervisedTraining};
use burn_eqat::files::saved_size;
use burn_eqat::lm::{Calibration, LmError, TokenBatch, TokenWindows, perplexity};
use burn_eqat::train::metrics::{
    GroupLearningRateMetric, ReconstructionLossMetric, TokenPerplexityMetric,
};
use burn_eqat::train::{BlockApConfig, E2eQpConfig, TrainError};
use burn_eqat::{Quantize, Scheme};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A model as it stands after a part of the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// `full-precision`, `rtn`, `block-ap` or `e2e-qp`; `packed` for a model that came so.
    pub name: String,
    /// Perplexity on the evaluation windows.
    pub perplexity: f64,
    /// Size of the model's tensors on disk.
    pub bytes: usize,
    /// Bits of a quantized weight, step sizes (16 bits) and zero points counted.
    pub bits_per_weight: f64,
    /// What the stage itself took, without the measuring.
    pub seconds: f64,
    /// User and system time of the process in the stage.
    pub cpu_seconds: Option<f64>,
    /// The most memory that the process has had so far.
    pub peak_rss_mb: Option<f64>,
}

/// Who hears how the job goes on.
pub struct Hooks<'a> {
    /// Stops the training when told to.
    pub interrupter: Interrupter,
    /// Makes what shows a training, from the name of the stage.
    pub renderer: &'a dyn Fn(&str) -> Box<dyn MetricsRenderer>,
    /// Hears of each evaluated batch: stage, batches done, batches in all.
    pub evaluating: &'a mut dyn FnMut(&str, usize, usize) -> Result<(), LmError>,
    /// Gets each stage and its model when it is measured, to show and to save before the next begins.
    pub finished: &'a mut dyn FnMut(&Stage, &Llama) -> Result<(), Error>,
}

/// Quantizes a full-precision model; gives back the packed one and what was measured. One that is packed
/// already is trained on by E2E-QP.
///
/// # Errors
///
/// When the scheme does not fit the model, a loss is not finite, or the job is interrupted.
pub fn quantize(
    loaded: &LoadedLlama,
    data: &Calibration,
    settings: &QuantizeSettings,
    device: &Device,
    hooks: &mut Hooks<'_>,
) -> Result<(Llama, Vec<Stage>), Error> {
    let mut job = Job {
        loaded,
        data,
        settings,
        device,
        hooks,
        stages: Vec::new(),
    };
    let model = loaded.model.clone();
    if loaded.scheme.is_some() {
        job.measure("packed", Meter::start(), &model)?;
        let meter = Meter::start();
        let packed = job.e2e_qp(model)?;
        job.measure("e2e-qp", meter, &packed)?;
        return Ok((packed, job.stages));
    }
    job.measure("full-precision", Meter::start(), &model)?;

    let meter = Meter::start();
    let mut packed = round_to_nearest(model.clone(), settings.scheme)?;
    job.measure("rtn", meter, &packed)?;

    if settings.method >= Method::BlockAp {
        let meter = Meter::start();
        packed = job.block_ap(model)?;
        job.measure("block-ap", meter, &packed)?;
    }
    if settings.method >= Method::EfficientQat {
        let meter = Meter::start();
        packed = job.e2e_qp(packed)?;
        job.measure("e2e-qp", meter, &packed)?;
    }
    Ok((packed, job.stages))
}

/// Quantizes a block at a time: one that is in a file is in memory for no longer.
fn round_to_nearest(mut model: Llama, scheme: Scheme) -> Result<Llama, Error> {
    for index in 0..model.blocks() {
        let block = model.with_block(index, DecoderBlock::clone)?;
        let packed = block.quantize_rtn(&DecoderBlock::quantized_weights(), scheme)?;
        model.put_block(index, packed);
    }
    Ok(model)
}

struct Job<'a, 'h> {
    loaded: &'a LoadedLlama,
    data: &'a Calibration,
    settings: &'a QuantizeSettings,
    device: &'a Device,
    hooks: &'a mut Hooks<'h>,
    stages: Vec<Stage>,
}

impl Job<'_, '_> {
    /// Ends a stage: stops its meter, then evaluates the model.
    fn measure(&mut self, name: &str, meter: Meter, model: &Llama) -> Result<(), Error> {
        let usage = meter.stop();
        let evaluating = &mut self.hooks.evaluating;
        let perplexity = perplexity(model, &self.data.eval, self.device, &mut |done, total| {
            evaluating(name, done, total)
        })?;
        let size = model.size_report();
        let dtype = self.loaded.dtype();
        let stage = Stage {
            name: name.to_string(),
            perplexity,
            bytes: match model.streams() {
                true => self.loaded.checkpoint.bytes(),
                false => saved_size(model, dtype)?,
            },
            bits_per_weight: match size.packed_weights {
                0 => 8.0 * dtype.size() as f64,
                _ => size.bits_per_weight(),
            },
            seconds: usage.seconds,
            cpu_seconds: usage.cpu_seconds,
            peak_rss_mb: usage.peak_rss_mb,
        };
        (self.hooks.finished)(&stage, model)?;
        self.stages.push(stage);
        Ok(())
    }

    fn block_ap(&self, model: Llama) -> Result<Llama, Error> {
        let settings = self.settings;
        let phase = BlockApConfig::new(settings.scheme, Llama::quantized_weights())
            .with_quant_learning_rate(Some(settings.rates.quant))
            .with_weight_learning_rate(Some(settings.rates.weight))
            .with_epochs(settings.epochs)
            .init();
        let data = |windows: &TokenWindows| windows.loader(settings.batch_size, None, self.device);
        let training = self
            .training("block-ap", data(&self.data.train), data(&self.data.valid))
            .metric_train_numeric(ReconstructionLossMetric::default())
            .metric_valid_numeric(ReconstructionLossMetric::default())
            .metric_train_numeric(GroupLearningRateMetric::quantizer())
            .metric_train_numeric(GroupLearningRateMetric::weights());
        finish(phase.launch(training, model))
    }

    fn e2e_qp(&self, packed: Llama) -> Result<Llama, Error> {
        let settings = self.settings;
        let phase = E2eQpConfig::new()
            .with_learning_rate(Some(settings.rates.e2e))
            .with_epochs(settings.e2e_epochs)
            .init();
        let seed = Some(settings.seed);
        let train = (self.data.e2e).loader(settings.e2e_batch, seed, self.device);
        let valid = (self.data.valid).loader(settings.e2e_batch, None, self.device);
        let training = self
            .training("e2e-qp", train, valid)
            .metric_train_numeric(TokenPerplexityMetric::default())
            .metric_valid_numeric(TokenPerplexityMetric::default())
            .metric_train_numeric(burn::train::metric::LearningRateMetric::new());
        finish(phase.launch(training, packed))
    }

    /// A training that shows itself through the hooks and writes no file.
    fn training(
        &self,
        name: &str,
        train: Arc<dyn burn::data::dataloader::DataLoader<TokenBatch>>,
        valid: Arc<dyn burn::data::dataloader::DataLoader<TokenBatch>>,
    ) -> SupervisedTraining<Llama> {
        SupervisedTraining::new(std::env::temp_dir(), train, valid)
            .with_metric_logger(InMemoryMetricLogger::default())
            .with_application_logger(None)
            .with_interrupter(self.hooks.interrupter.clone())
            .renderer((self.hooks.renderer)(name))
            .label(name)
    }
}

fn finish(result: Result<Llama, TrainError>) -> Result<Llama, Error> {
    result.map_err(|error| match error {
        TrainError::Interrupted => Error::Interrupted,
        error => Error::Train(error),
    })
}
