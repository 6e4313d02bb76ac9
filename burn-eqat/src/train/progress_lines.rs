use super::{DataSplit, TrainEvent};
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use std::io::Write;

/// Shows a training as text: one line for each epoch, with its metrics.
///
/// It is a renderer for Burn's `SupervisedTraining`, whose own prints every step where there is no dashboard (feature `tui`):
///
/// ```no_run
/// # use burn::train::{LearnerModel, SupervisedTraining};
/// # use burn_eqat::train::{BlockAp, ProgressLines};
/// # fn show<M: LearnerModel>(training: SupervisedTraining<M>) -> SupervisedTraining<M> {
/// training.renderer(Box::new(ProgressLines::stderr())).label("block-ap")
/// # }
/// ```
///
/// It is an observer of the recipe, too. Where a phase runs by itself, it takes the phase's [events](TrainEvent):
///
/// ```
/// # use burn_eqat::train::{ProgressLines, TrainError, TrainEvent};
/// let mut lines = ProgressLines::stderr();
/// let mut on_event = |event: TrainEvent| -> Result<(), TrainError> {
///     lines.event(&event);
///     Ok(())
/// };
/// ```
pub struct ProgressLines {
    out: Box<dyn Write + Send + Sync>,
    label: String,
    epochs: usize,
    metrics: Vec<Shown>,
    /// Losses of the epoch that events told.
    train_loss: Option<f64>,
    valid_loss: Option<f64>,
}

/// A metric: its name, and its last means.
struct Shown {
    id: MetricId,
    name: String,
    train: Option<String>,
    valid: Option<String>,
}

impl ProgressLines {
    /// Writes to the standard error.
    pub fn stderr() -> Self {
        Self::new(std::io::stderr())
    }

    /// Writes to `out`; what cannot be written is lost.
    pub fn new(out: impl Write + Send + Sync + 'static) -> Self {
        Self {
            out: Box::new(out),
            label: "training".to_string(),
            epochs: 0,
            metrics: Vec::new(),
            train_loss: None,
            valid_loss: None,
        }
    }

    /// Takes an event of a phase.
    pub fn event(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::PhaseStart { phase, rates, .. } => {
                let rates = match phase {
                    super::Phase::BlockAp => format!(
                        "{:.1e} (step sizes and zero points), {:.1e} (weights)",
                        rates.quantizer, rates.weights
                    ),
                    super::Phase::E2eQp => format!("{:.1e} (step sizes)", rates.e2e),
                };
                self.line(&format!("{phase}: learning rates {rates}"));
            }
            TrainEvent::SplitEnd { split, loss, .. } => match split {
                DataSplit::Train => self.train_loss = Some(*loss),
                DataSplit::Valid => self.valid_loss = Some(*loss),
            },
            TrainEvent::EpochEnd { epoch } => {
                let block = match epoch.block {
                    Some(block) => format!(", block {block}"),
                    None => String::new(),
                };
                let train = self.train_loss.take();
                let loss = train.map_or(String::new(), |loss| format!(" loss {loss:.4e}"));
                let valid = self.valid_loss.take();
                let valid = valid.map_or(String::new(), |loss| format!(", validation {loss:.4e}"));
                let (phase, number, epochs) = (epoch.phase, epoch.number, epoch.epochs);
                self.line(&format!("{phase} {number}/{epochs}{block}:{loss}{valid}"));
            }
            TrainEvent::SplitStart { .. }
            | TrainEvent::Batch { .. }
            | TrainEvent::BlockEnd { .. }
            | TrainEvent::Comparison { .. } => {}
        }
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }

    fn shown(&mut self, state: MetricState) -> Option<(&mut Shown, String)> {
        let (MetricState::Generic(entry) | MetricState::Numeric(entry, _)) = state;
        let metric = self
            .metrics
            .iter_mut()
            .find(|shown| shown.id == entry.metric_id)?;
        // Burn writes `epoch 1.5 - batch 1.2`: the first is the mean so far.
        let text = entry.serialized_entry.formatted;
        let mean = text.split(" - ").next().unwrap_or_default();
        let mean = mean.trim_start_matches("epoch ").to_string();
        Some((metric, mean))
    }
}

impl MetricsRendererTraining for ProgressLines {
    fn update_train(&mut self, state: MetricState) {
        if let Some((metric, mean)) = self.shown(state) {
            metric.train = Some(mean);
        }
    }

    fn update_valid(&mut self, state: MetricState) {
        if let Some((metric, mean)) = self.shown(state) {
            metric.valid = Some(mean);
        }
    }
}

impl TrainingProgressLogger for ProgressLines {
    fn start(
        &mut self,
        total_epochs: usize,
        _starting_epoch: usize,
        _total_items: Option<usize>,
        label: Option<&str>,
    ) {
        self.epochs = total_epochs;
        if let Some(label) = label {
            self.label = label.to_string();
        }
    }

    fn update_epoch(&mut self, epoch: usize) {
        let mut shown = Vec::new();
        for metric in &mut self.metrics {
            let name = &metric.name;
            match (metric.train.take(), metric.valid.take()) {
                (Some(train), Some(valid)) => {
                    shown.push(format!("{name} {train} (validation {valid})"));
                }
                (Some(train), None) => shown.push(format!("{name} {train}")),
                (None, Some(valid)) => shown.push(format!("{name} (validation {valid})")),
                (None, None) => {}
            }
        }
        let (label, epochs, shown) = (&self.label, self.epochs, shown.join(", "));
        let line = format!("{label} {epoch}/{epochs}: {shown}");
        self.line(line.trim_end_matches([':', ' ']));
    }

    fn start_split(&mut self, _split: &str, _total_items: usize) {}
    fn update_split(&mut self, _items_processed: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}

    // Burn logs one for each batch.
    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRenderer for ProgressLines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        if self
            .metrics
            .iter()
            .all(|shown| shown.id != definition.metric_id)
        {
            self.metrics.push(Shown {
                id: definition.metric_id,
                name: definition.name.to_string(),
                train: None,
                valid: None,
            });
        }
    }
}

// Burn's renderers serve its evaluator too; this one shows trainings only.
impl MetricsRendererEvaluation for ProgressLines {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl EvaluationProgressLogger for ProgressLines {
    fn start_global_progress(&mut self, _total_tests: usize) {}
    fn start_test(&mut self, _name: &str, _total_items: usize) {}
    fn update_test_progress(&mut self, _items_processed: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}
