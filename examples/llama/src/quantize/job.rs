use super::usage::Meter;
use super::{MeasuredStage, QuantizeSettings, Rates};
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::Llama;
use burn::tensor::Device;
use burn_eqat::files::saved_size;
use burn_eqat::lm::{Calibration, LmError, TokenWindows, perplexity};
use burn_eqat::train::{TrainError, TrainEvent};
use burn_eqat::{Observer, PhaseLoaders, Stage, StageName};

/// Callbacks of the job.
pub struct Hooks<'a> {
    /// Gets each event of the two training phases; may stop them.
    pub training: &'a mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
    /// Gets each evaluated batch: stage, batches done, batches in all.
    pub evaluating: &'a mut dyn FnMut(StageName, usize, usize) -> Result<(), LmError>,
    /// Gets each stage and its model when it is measured, to show and to save before the next begins.
    pub finished: &'a mut dyn FnMut(&MeasuredStage, &Llama) -> Result<(), Error>,
}

/// A model that was quantized.
pub struct Quantized {
    /// The packed model.
    pub model: Llama,
    /// What was measured.
    pub stages: Vec<MeasuredStage>,
    /// The learning rates that were used.
    pub rates: Rates,
    /// The stage whose model it is: E2E-QP's is not, where it is worse than the one before.
    pub kept: StageName,
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
) -> Result<Quantized, Error> {
    let mut job = Job {
        loaded,
        data,
        device,
        hooks,
        meter: Meter::start(),
        stages: Vec::new(),
        rates: Rates::default(),
        kept: StageName::FullPrecision,
    };
    let recipe = settings.recipe(Llama::quantized_weights()).init();
    let data = loaders(data, settings, device);
    let model = recipe.run(loaded.model.clone(), data, &mut job)?;
    let Job {
        stages,
        rates,
        kept,
        ..
    } = job;
    Ok(Quantized {
        model,
        stages,
        rates,
        kept,
    })
}

/// Windows as batches. Block-AP takes them in order, E2E-QP in another order each epoch.
fn loaders(
    data: &Calibration,
    settings: &QuantizeSettings,
    device: &Device,
) -> PhaseLoaders<burn_eqat::lm::TokenBatch> {
    let loader = |windows: &TokenWindows, batch: usize, seed| windows.loader(batch, seed, device);
    let block_ap = settings.block_ap.map_or(1, |phase| phase.batch_size);
    let e2e = settings.e2e_qp.map_or(1, |phase| phase.e2e_batch);
    PhaseLoaders {
        block_ap: (
            loader(&data.train, block_ap, None),
            loader(&data.valid, block_ap, None),
        ),
        e2e_qp: (
            loader(&data.e2e, e2e, Some(settings.seed)),
            loader(&data.valid, e2e, None),
        ),
    }
}

/// Measures each stage.
struct Job<'a, 'h> {
    loaded: &'a LoadedLlama,
    data: &'a Calibration,
    device: &'a Device,
    hooks: &'a mut Hooks<'h>,
    /// Runs since the last stage was measured.
    meter: Meter,
    stages: Vec<MeasuredStage>,
    rates: Rates,
    kept: StageName,
}

impl Job<'_, '_> {
    fn measure(&mut self, stage: &Stage<'_, Llama>) -> Result<(), Error> {
        let (usage, model) = (self.meter.stop(), stage.model);
        let evaluating = &mut self.hooks.evaluating;
        let perplexity = perplexity(model, &self.data.eval, self.device, &mut |done, total| {
            evaluating(stage.name, done, total)
        })?;
        let dtype = self.loaded.dtype();
        let measured = MeasuredStage {
            name: stage.name,
            perplexity,
            bytes: if model.streams() {
                self.loaded.checkpoint.bytes()
            } else {
                saved_size(model, dtype)?
            },
            bits_per_weight: match stage.size_report.packed_weights {
                0 => 8.0 * dtype.size() as f64,
                _ => stage.size_report.bits_per_weight(),
            },
            seconds: stage.seconds,
            cpu_seconds: usage.cpu_seconds,
            peak_rss_mb: usage.peak_rss_mb,
            comparison: stage.comparison,
        };
        if stage.kept() {
            self.kept = stage.name;
        }
        (self.hooks.finished)(&measured, model)?;
        self.stages.push(measured);
        match (stage.name, stage.rates) {
            (StageName::BlockAp, Some(rates)) => {
                self.rates.quant = Some(rates.quantizer);
                self.rates.weight = Some(rates.weights);
            }
            (StageName::E2eQp, Some(rates)) => self.rates.e2e = Some(rates.e2e),
            _ => {}
        }
        self.meter = Meter::start();
        Ok(())
    }
}

impl Observer<Llama> for Job<'_, '_> {
    fn stage(&mut self, stage: &Stage<'_, Llama>) -> Result<(), TrainError> {
        self.measure(stage)
            .map_err(|error| TrainError::Callback(Box::new(error)))
    }

    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        (self.hooks.training)(event)
    }
}
