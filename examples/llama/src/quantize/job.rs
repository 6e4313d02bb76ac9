use super::usage::Meter;
use super::{MeasuredStage, QuantizeSettings, Rates};
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::Llama;
use burn::tensor::Device;
use burn_eqat::files::saved_size_by_block;
use burn_eqat::lm::{BatchSizes, Calibration, LmError, perplexity, perplexity_by_block};
use burn_eqat::train::{CacheConfig, TrainError, TrainEvent};
use burn_eqat::{Observer, RunDir, Stage, StageName};
use serde_json::json;

/// Callbacks of the job.
pub struct Hooks<'a> {
    /// Gets each event of the two training phases; may stop them.
    pub training: &'a mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
    /// Gets each evaluated batch: stage, batches done, and batches in all.
    pub evaluating: &'a mut dyn FnMut(StageName, usize, usize) -> Result<(), LmError>,
    /// Gets each measured stage and its model, to show and save it before the next stage.
    pub finished: &'a mut dyn FnMut(&MeasuredStage, &Llama) -> Result<(), Error>,
}

/// A quantized model.
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

/// Quantizes a full-precision model. Returns the packed model and the measurements. A packed model is trained
/// further with E2E-QP.
///
/// The first device is where the model is. With several, both phases train on all of them at the same time, with as many windows
/// in a step as the settings say.
///
/// With a run directory, what is finished is kept there, and not done again.
///
/// # Errors
///
/// When the scheme does not fit the model, the windows of a step do not divide among the devices, a loss is not finite, or
/// the job is interrupted.
pub fn quantize(
    loaded: &LoadedLlama,
    data: &Calibration,
    settings: &QuantizeSettings,
    devices: &[Device],
    run: Option<RunDir>,
    hooks: &mut Hooks<'_>,
) -> Result<Quantized, Error> {
    let Some(device) = devices.first() else {
        let message = "there is no device to work on, expected one or more";
        return Err(Error::Setting(message.to_string()));
    };
    let share = settings.share(devices.len())?;
    let mut job = Job {
        loaded,
        data,
        device,
        hooks,
        cache: evaluation_cache(&settings.cache),
        run: run.clone(),
        meter: Meter::start(),
        stages: Vec::new(),
        rates: Rates::default(),
        kept: StageName::FullPrecision,
    };
    let recipe = share.recipe(Llama::quantized_weights()).init();
    let mut recipe = recipe.with_devices(devices.to_vec());
    if let Some(run) = run {
        recipe = recipe.with_run_dir(run);
    }
    // Nothing is read for a phase that does not run.
    let batch = BatchSizes {
        block_ap: share.block_ap.map_or(1, |phase| phase.batch_size),
        e2e_qp: share.e2e_qp.map_or(1, |phase| phase.e2e_batch),
    };
    let loaders = data.phase_loaders(batch, settings.seed, device);
    let model = loaded.model.clone().with_compute_type(settings.dtype);
    let model = recipe.run(model, loaders, &mut job)?;
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

/// Measures each stage.
struct Job<'a, 'h> {
    loaded: &'a LoadedLlama,
    data: &'a Calibration,
    device: &'a Device,
    hooks: &'a mut Hooks<'h>,
    /// Where hidden states of a model go that is measured block by block.
    cache: CacheConfig,
    /// Keeps what was measured.
    run: Option<RunDir>,
    /// Runs since the last stage was measured.
    meter: Meter,
    stages: Vec<MeasuredStage>,
    rates: Rates,
    kept: StageName,
}

impl Job<'_, '_> {
    fn measure(&mut self, stage: &Stage<'_, Llama>) -> Result<(), Error> {
        let measured = match self.measured_before(stage.name)? {
            Some(measured) => measured,
            None => self.measure_now(stage)?,
        };
        if stage.kept() {
            self.kept = stage.name;
        }
        (self.hooks.finished)(&measured, stage.model)?;
        self.stages.push(measured);
        match (stage.name, stage.rates) {
            (StageName::BlockAp, Some(rates)) => {
                self.rates.quant = Some(rates.quantizer);
                self.rates.weight = Some(rates.weights);
            }
            (StageName::E2eAp, Some(rates)) => {
                self.rates.e2e_ap_quant = Some(rates.e2e_ap_quantizer);
                self.rates.e2e_ap_weight = Some(rates.e2e_ap_weights);
            }
            (StageName::E2eQp, Some(rates)) => self.rates.e2e = Some(rates.e2e),
            _ => {}
        }
        self.meter = Meter::start();
        Ok(())
    }

    /// What a run that goes on has measured of a stage.
    fn measured_before(&self, name: StageName) -> Result<Option<MeasuredStage>, Error> {
        let Some(run) = &self.run else {
            return Ok(None);
        };
        let name = note(name);
        let measured = run.note(&name).map(serde_json::from_value).transpose();
        measured.map_err(|error| Error::input(run.path(), format!("{name}: {error}")))
    }

    fn measure_now(&mut self, stage: &Stage<'_, Llama>) -> Result<MeasuredStage, Error> {
        let (usage, model) = (self.meter.stop(), stage.model);
        let evaluating = &mut self.hooks.evaluating;
        let mut progress = |done, total| evaluating(stage.name, done, total);
        let (windows, device) = (&self.data.eval, self.device);
        let perplexity = if model.streams() {
            perplexity_by_block(model, windows, device, &self.cache, &mut progress)?
        } else {
            perplexity(model, windows, device, &mut progress)?
        };
        let dtype = self.loaded.dtype();
        let measured = MeasuredStage {
            name: stage.name,
            perplexity,
            bytes: if stage.name == StageName::FullPrecision && model.streams() {
                self.loaded.checkpoint.bytes()
            } else {
                saved_size_by_block(model, dtype)?
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
        if let Some(run) = &self.run {
            run.set_note(&note(stage.name), json!(measured))?;
        }
        Ok(measured)
    }
}

/// The hidden states of the evaluation windows have a budget of their own, and no larger one than Block-AP's.
fn evaluation_cache(cache: &CacheConfig) -> CacheConfig {
    /// Bytes.
    const MOST: u64 = 1 << 28;
    let memory = cache.memory.map_or(MOST, |memory| memory.min(MOST));
    cache.clone().with_memory(Some(memory))
}

/// What a run directory calls the measurements of a stage.
fn note(name: StageName) -> String {
    format!("stage {name}")
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
