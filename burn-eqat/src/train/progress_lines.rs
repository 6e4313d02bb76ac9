use super::{DataSplit, Epoch, Phase, PhaseProgress, Rate, TrainEvent};
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use std::io::Write;
use std::time::{Duration, Instant};

/// Shows a training as text: a line for each epoch with its losses or metrics and the time that is left, and in long epochs one
/// every ten seconds.
///
/// It is a renderer for Burn's `SupervisedTraining`. Burn's own renderer prints every step if there is no dashboard
/// (feature `tui`):
///
/// ```no_run
/// # use burn::train::{LearnerModel, SupervisedTraining};
/// # use burn_eqat::train::{BlockAp, ProgressLines};
/// # fn show<M: LearnerModel>(training: SupervisedTraining<M>) -> SupervisedTraining<M> {
/// training.renderer(Box::new(ProgressLines::stderr())).label("block-ap")
/// # }
/// ```
///
/// It is an observer of the recipe, too. If a phase runs alone, pass it the phase's [events](TrainEvent):
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
    progress: PhaseProgress,
    /// What lines end with.
    note: Option<Note>,
    /// The least time from one line to the next in an epoch.
    every: Duration,
    last_line: Instant,
    /// Blocks of the phase; 0 where it has none.
    blocks: usize,
    /// The epoch under way, from 1, and what it does, where Burn's training says so.
    epoch: usize,
    split: DataSplit,
    /// The losses of the epoch so far, as events tell them.
    train: Mean,
    valid: Mean,
}

/// Text that is asked for when a line is written.
type Note = Box<dyn FnMut() -> Option<String> + Send + Sync>;

/// The mean of losses; once an epoch's is known, that.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn of(loss: f64) -> Self {
        Self {
            sum: loss,
            count: 1,
        }
    }

    fn add(&mut self, loss: f64) {
        self.sum += loss;
        self.count += 1;
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
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

    /// Writes to `out`, and ignores errors of writing.
    pub fn new(out: impl Write + Send + Sync + 'static) -> Self {
        Self {
            out: Box::new(out),
            label: "training".to_string(),
            epochs: 0,
            metrics: Vec::new(),
            progress: PhaseProgress::default(),
            note: None,
            every: Duration::from_secs(10),
            last_line: Instant::now(),
            blocks: 0,
            epoch: 1,
            split: DataSplit::Train,
            train: Mean::default(),
            valid: Mean::default(),
        }
    }

    /// The least time between two lines in an epoch; 10 seconds, unless set. Epochs end with a line however short they are.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// Ends lines with what `note` says when they are written: the memory in use, say.
    pub fn with_note(
        mut self,
        note: impl FnMut() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.note = Some(Box::new(note));
        self
    }

    /// Takes an event of a phase.
    pub fn event(&mut self, event: &TrainEvent) {
        self.progress.event(event);
        match event {
            TrainEvent::PhaseStart {
                phase,
                rates,
                blocks,
                ..
            } => {
                self.blocks = *blocks;
                let rates = match phase {
                    Phase::BlockAp => all_parameters(rates.quantizer, rates.weights),
                    Phase::E2eAp => all_parameters(rates.e2e_ap_quantizer, rates.e2e_ap_weights),
                    Phase::E2eQp => format!("{:.1} (step sizes)", rates.e2e),
                };
                self.line(&format!("{phase}: learning rates {rates}"));
            }
            TrainEvent::Rates { rates, tried } => {
                let tried = tried.iter();
                let tried = tried.map(|(factor, loss)| format!("{loss:.4e} with {factor} times"));
                let tried = tried.collect::<Vec<_>>().join(", ");
                self.line(&format!("the rates tried: validation {tried}"));
                let rates = all_parameters(rates.quantizer, rates.weights);
                self.line(&format!("{}: learning rates {rates}", Phase::BlockAp));
            }
            TrainEvent::Resumed { phase, done, .. } => {
                let unit = match phase {
                    Phase::BlockAp => "blocks",
                    Phase::E2eAp | Phase::E2eQp => "steps",
                };
                self.line(&format!("{phase}: {done} {unit} were done before"));
            }
            TrainEvent::SplitStart { split, .. } => match split {
                DataSplit::Train => (self.train, self.valid) = Default::default(),
                DataSplit::Valid => self.valid = Mean::default(),
            },
            TrainEvent::Batch {
                epoch, split, loss, ..
            } => {
                let loss = loss.clone().into_scalar();
                match split {
                    DataSplit::Train => self.train.add(loss),
                    DataSplit::Valid => self.valid.add(loss),
                }
                if self.is_due() {
                    self.epoch_line(epoch);
                }
            }
            TrainEvent::SplitEnd { split, loss, .. } => match split {
                DataSplit::Train => self.train = Mean::of(*loss),
                DataSplit::Valid => self.valid = Mean::of(*loss),
            },
            TrainEvent::EpochEnd { epoch } => self.epoch_line(epoch),
            TrainEvent::Skipped { message, .. } => self.line(&format!("step left out: {message}")),
            TrainEvent::Pass {
                pass,
                block,
                done,
                total,
            } => {
                if self.is_due() {
                    let block = block.map(|block| format!("block {}, ", block + 1));
                    let block = block.unwrap_or_default();
                    let of = match total {
                        0 => String::new(),
                        total => format!(" of {total}"),
                    };
                    self.line(&format!("{block}{pass}: {done}{of}"));
                }
            }
            TrainEvent::BlockEnd { .. } | TrainEvent::Comparison { .. } => {}
        }
    }

    /// Where the phase is, its losses so far, and how far it is.
    fn epoch_line(&mut self, epoch: &Epoch) {
        let (mut number, mut epochs) = (epoch.number, epoch.epochs);
        let mut place = epoch.phase.to_string();
        if let Some(block) = epoch.block {
            let blocks = self.blocks.max(block + 1);
            place += &format!(", block {} of {blocks}", block + 1);
            // The phase counts the epochs of all blocks.
            epochs = (epochs / blocks).max(1);
            number = (number - 1) % epochs + 1;
        }
        let loss = |name: &str, mean: Mean| {
            let loss = mean.get().map(|loss| format!("{name} {loss:.4e}"));
            loss.unwrap_or_default()
        };
        let losses = [
            loss("loss", self.train),
            loss("validation", self.valid),
            self.how_far(epoch.phase),
        ];
        let losses: Vec<String> = losses.into_iter().filter(|text| !text.is_empty()).collect();
        let losses = losses.join(", ");
        self.line(&format!("{place}, epoch {number} of {epochs}: {losses}"));
    }

    /// Steps done of all, the time that is left, and the note.
    fn how_far(&mut self, phase: Phase) -> String {
        let unit = match phase {
            Phase::BlockAp => "batches",
            Phase::E2eAp | Phase::E2eQp => "items",
        };
        let (done, total) = (self.progress.done(), self.progress.total());
        format!("{done} of {total} {unit}{}", self.left())
    }

    /// The time that is left, and the note.
    fn left(&mut self) -> String {
        let left = self.progress.time_left();
        let left = left.map(|left| format!(", {left} left"));
        let note = self.note.as_mut().and_then(|note| note());
        let note = note.map(|note| format!(", {note}"));
        left.unwrap_or_default() + &note.unwrap_or_default()
    }

    fn is_due(&self) -> bool {
        self.last_line.elapsed() >= self.every
    }

    fn line(&mut self, line: &str) {
        self.last_line = Instant::now();
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }

    /// The line of an epoch of Burn's training, with what its metrics are so far.
    fn metrics_line(&mut self, epoch: usize) {
        let mut shown = Vec::new();
        for metric in &self.metrics {
            let name = &metric.name;
            match (&metric.train, &metric.valid) {
                (Some(train), Some(valid)) => {
                    shown.push(format!("{name} {train} (validation {valid})"));
                }
                (Some(train), None) => shown.push(format!("{name} {train}")),
                (None, Some(valid)) => shown.push(format!("{name} (validation {valid})")),
                (None, None) => {}
            }
        }
        let left = self.left();
        let (label, epochs, shown) = (&self.label, self.epochs, shown.join(", "));
        let line = format!("{label} {epoch}/{epochs}: {shown}{left}");
        self.line(line.trim_end_matches([':', ' ']));
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
        starting_epoch: usize,
        _total_items: Option<usize>,
        label: Option<&str>,
    ) {
        self.epochs = total_epochs;
        self.epoch = starting_epoch;
        self.progress.start(total_epochs, Instant::now());
        self.last_line = Instant::now();
        if let Some(label) = label {
            self.label = label.to_string();
        }
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.progress.epoch_end(epoch, Instant::now());
        self.metrics_line(epoch);
        self.epoch = epoch + 1;
        for metric in &mut self.metrics {
            (metric.train, metric.valid) = (None, None);
        }
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.split = match split {
            "valid" => DataSplit::Valid,
            _ => DataSplit::Train,
        };
        let now = Instant::now();
        (self.progress).split(self.epoch, self.split, total_items, now);
    }

    fn update_split(&mut self, items_processed: usize) {
        (self.progress).batch(self.split, items_processed, Instant::now());
        if self.is_due() {
            self.metrics_line(self.epoch);
        }
    }

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
/// The rates of a phase where all parameters train.
fn all_parameters(quantizer: Rate, weights: Rate) -> String {
    format!("{quantizer:.1} (step sizes and zero points), {weights:.1} (weights)")
}
