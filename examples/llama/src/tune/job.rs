use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::Llama;
use crate::quantize::Meter;
use burn::config::Config;
use burn::tensor::Device;
use burn_eqat::files::PackedSchemes;
use burn_eqat::lm::Examples;
use burn_eqat::train::{Rate, TrainError, TrainEvent};
use burn_eqat::{Comparison, EfficientQatConfig, Observer, RunDir, Stage, StageName};

/// Configuration to [`tune`] a packed Llama.
#[derive(Config, Debug)]
pub struct TuneConfig {
    /// Highest learning rate of the step sizes; if not set, that of E2E-QP for the model.
    #[config(default = "None")]
    pub learning_rate: Option<Rate>,
    /// Passes over the conversations.
    #[config(default = 1)]
    pub epochs: usize,
    /// Conversations of a batch.
    #[config(default = 16)]
    pub batch_size: usize,
    /// Batches whose gradients are averaged for a step.
    #[config(default = 1)]
    pub grad_accumulation: usize,
    /// Stop after that many epochs without a better validation loss, and go back to the best.
    #[config(default = "None")]
    pub early_stopping: Option<usize>,
    /// Keep the activations of one block at a time.
    #[config(default = false)]
    pub recompute: bool,
    /// Seed of the order of the conversations.
    #[config(default = 42)]
    pub seed: u64,
}

/// A tuned model, and what it took.
pub struct Tuned {
    /// The model; the one of before where tuning made it worse.
    pub model: Llama,
    /// The loss on the answers of the validation conversations; `None` where there are none.
    pub comparison: Option<Comparison>,
    /// The learning rate that was used.
    pub learning_rate: Option<Rate>,
    /// The time, without measuring.
    pub seconds: f64,
    /// User and system time of the process in that time; `None` if the system does not report it.
    pub cpu_seconds: Option<f64>,
    /// The peak memory of the process in megabytes.
    pub peak_rss_mb: Option<f64>,
}

impl Tuned {
    /// Whether the loss on the validation conversations is higher than before.
    pub fn is_worse(&self) -> bool {
        self.comparison.is_some_and(|losses| losses.is_worse())
    }
}

/// Trains the step sizes of a packed model on the answers of conversations (E2E-QP). The callback gets each event, and may stop
/// it with an error. With a run directory, the state of the training is kept there, and goes on from what is there.
///
/// # Errors
///
/// When the model is not packed, there is nothing to train on, a loss is not finite, or it is interrupted.
pub fn tune(
    loaded: &LoadedLlama,
    train: &Examples,
    valid: &Examples,
    config: &TuneConfig,
    device: &Device,
    run: Option<RunDir>,
    on_event: &mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
) -> Result<Tuned, Error> {
    let packed = packed_schemes(loaded)?;
    let recipe = EfficientQatConfig::new(packed.scheme, Llama::quantized_weights())
        .with_e2e_learning_rate(config.learning_rate)
        .with_e2e_epochs(config.epochs)
        .with_grad_accumulation(config.grad_accumulation)
        .with_early_stopping(config.early_stopping)
        .with_recompute(config.recompute);
    let train = train.loader(config.batch_size, Some(config.seed), device);
    let valid = valid.loader(config.batch_size, None, device);
    let mut watcher = Watcher {
        on_event,
        meter: Meter::start(),
        tuned: None,
    };
    let mut recipe = recipe.init();
    if let Some(run) = run {
        recipe = recipe.with_run_dir(run);
    }
    let model = recipe.run(loaded.model.clone(), (train, valid), &mut watcher)?;
    let tuned = watcher.tuned.ok_or(TrainError::NoData)?;
    Ok(Tuned { model, ..tuned })
}

/// The schemes of a model, which has to be packed.
pub(crate) fn packed_schemes(loaded: &LoadedLlama) -> Result<&PackedSchemes, Error> {
    loaded.schemes.as_ref().ok_or_else(|| {
        let message = "is not packed, expected a model that llama quantize has made";
        Error::input(loaded.checkpoint.dir(), message)
    })
}

/// Passes events on, and measures the phase.
struct Watcher<'a> {
    on_event: &'a mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
    meter: Meter,
    tuned: Option<Tuned>,
}

impl Observer<Llama> for Watcher<'_> {
    fn stage(&mut self, stage: &Stage<'_, Llama>) -> Result<(), TrainError> {
        if stage.name == StageName::E2eQp {
            let usage = self.meter.stop();
            self.tuned = Some(Tuned {
                model: stage.model.clone(),
                comparison: stage.comparison,
                learning_rate: stage.rates.map(|rates| rates.e2e),
                seconds: stage.seconds,
                cpu_seconds: usage.cpu_seconds,
                peak_rss_mb: usage.peak_rss_mb,
            });
        }
        Ok(())
    }

    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        if let TrainEvent::PhaseStart { .. } = event {
            self.meter = Meter::start();
        }
        (self.on_event)(event)
    }
}
