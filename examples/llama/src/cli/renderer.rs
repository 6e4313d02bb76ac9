use super::progress::bar;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use indicatif::ProgressBar;
use std::collections::HashMap;

/// Shows a training as a progress bar with the metric that matters, and a line for each epoch.
pub(super) struct BarRenderer {
    stage: String,
    bar: ProgressBar,
    epochs: usize,
    epoch: usize,
    names: HashMap<MetricId, String>,
    /// Last shown training and validation values, `epoch x - batch y`.
    train: String,
    valid: String,
}

impl BarRenderer {
    /// A renderer for a stage.
    pub(super) fn new(stage: &str) -> Self {
        Self {
            stage: stage.to_string(),
            bar: bar(0, stage),
            epochs: 0,
            epoch: 1,
            names: HashMap::new(),
            train: String::new(),
            valid: String::new(),
        }
    }

    /// The mean so far of a metric that is worth a place beside the bar.
    fn worth_showing(&self, state: &MetricState) -> Option<String> {
        let (MetricState::Generic(entry) | MetricState::Numeric(entry, _)) = state;
        let name = self.names.get(&entry.metric_id)?;
        let shown = entry.serialized_entry.formatted.as_str();
        let mean = shown.split(" - ").next()?.trim_start_matches("epoch ");
        let short = match name.as_str() {
            "Reconstruction Loss" => "loss",
            "Perplexity" => "perplexity",
            _ => return None,
        };
        Some(format!("{short} {mean}"))
    }
}

impl MetricsRendererTraining for BarRenderer {
    fn update_train(&mut self, state: MetricState) {
        if let Some(shown) = self.worth_showing(&state) {
            self.bar.set_message(shown.clone());
            self.train = shown;
        }
    }

    fn update_valid(&mut self, state: MetricState) {
        if let Some(shown) = self.worth_showing(&state) {
            self.valid = shown;
        }
    }
}

impl TrainingProgressLogger for BarRenderer {
    fn start(
        &mut self,
        total_epochs: usize,
        starting_epoch: usize,
        _total_items: Option<usize>,
        _label: Option<&str>,
    ) {
        self.epochs = total_epochs;
        self.epoch = starting_epoch;
    }

    fn start_split(&mut self, _split: &str, total_items: usize) {
        self.bar.set_length(total_items as u64);
        self.bar.set_position(0);
        let (stage, epoch, epochs) = (&self.stage, self.epoch, self.epochs);
        self.bar.set_prefix(format!("{stage} {epoch}/{epochs}"));
    }

    fn update_split(&mut self, items_processed: usize) {
        self.bar.set_position(items_processed as u64);
    }

    fn update_epoch(&mut self, epoch: usize) {
        let valid = match self.valid.is_empty() {
            true => String::new(),
            false => format!(" (validation {})", self.valid),
        };
        let (stage, epochs, train) = (&self.stage, self.epochs, &self.train);
        let line = format!("{stage} {epoch}/{epochs}: {train}{valid}");
        match self.bar.is_hidden() {
            true => eprintln!("{line}"),
            false => self.bar.println(line),
        }
        self.epoch = epoch + 1;
    }

    fn end_split(&mut self) {}

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRenderer for BarRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }
}

// Burn's renderers serve its evaluator too; this one shows trainings only.
impl MetricsRendererEvaluation for BarRenderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl EvaluationProgressLogger for BarRenderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}
    fn start_test(&mut self, _name: &str, _total_items: usize) {}
    fn update_test_progress(&mut self, _items_processed: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}
