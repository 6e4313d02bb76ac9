use super::progress::bar;
use burn_eqat::StageName;
use burn_eqat::train::{DataSplit, Epoch, Pass, Phase, PhaseProgress, TrainEvent};
use indicatif::ProgressBar;

/// Shows a training phase as a progress bar with the mean loss so far and the time that is left of the phase, and a
/// line for each epoch.
#[derive(Default)]
pub(super) struct TrainingBar {
    bar: Option<ProgressBar>,
    progress: PhaseProgress,
    sum: f64,
    batches: usize,
    /// The mean losses of an epoch, as text.
    train: String,
    valid: String,
}

impl TrainingBar {
    /// Shows an event.
    pub(super) fn event(&mut self, event: &TrainEvent) {
        self.progress.event(event);
        match event {
            TrainEvent::PhaseStart { phase, .. } => self.begin(name(*phase)),
            TrainEvent::Resumed { phase, done, .. } => {
                let unit = match phase {
                    Phase::BlockAp => "blocks",
                    Phase::E2eAp | Phase::E2eQp => "steps",
                };
                eprintln!("{}: {done} {unit} were done before", name(*phase));
            }
            TrainEvent::SplitStart {
                epoch,
                split,
                total,
            } => {
                (self.sum, self.batches) = (0.0, 0);
                if *split == DataSplit::Train {
                    self.valid.clear();
                }
                self.on_bar(|bar| {
                    bar.set_length(*total as u64);
                    bar.set_position(0);
                    bar.set_prefix(title(epoch));
                });
            }
            TrainEvent::Batch {
                epoch, done, loss, ..
            } => {
                let loss: f64 = loss.clone().into_scalar();
                self.sum += loss;
                self.batches += 1;
                let mut mean = shown(epoch.phase, self.sum / self.batches as f64);
                if let Some(left) = self.progress.time_left() {
                    mean += &format!(", {left} left of the phase");
                }
                self.on_bar(|bar| {
                    bar.set_position(*done as u64);
                    bar.set_message(mean);
                });
            }
            TrainEvent::SplitEnd { epoch, split, loss } => {
                let loss = shown(epoch.phase, *loss);
                match split {
                    DataSplit::Train => self.train = loss,
                    DataSplit::Valid => self.valid = format!(" (validation {loss})"),
                }
            }
            TrainEvent::EpochEnd { epoch } => {
                self.line(format!("{}: {}{}", title(epoch), self.train, self.valid));
            }
            TrainEvent::Skipped { message, .. } => {
                self.line(format!("step left out: {message}"));
            }
            TrainEvent::Comparison { done, total } => {
                if self.bar.is_none() {
                    self.begin(name(Phase::E2eQp));
                }
                self.on_bar(|bar| {
                    bar.set_length(*total as u64);
                    bar.set_position(*done as u64);
                    bar.set_message("measured on validation data");
                });
            }
            TrainEvent::Pass {
                pass,
                block,
                done,
                total,
            } => {
                if self.bar.is_none() {
                    self.begin(match pass {
                        Pass::Lessons => name(Phase::E2eQp),
                        _ => name(Phase::BlockAp),
                    });
                }
                let block = block.map(|block| format!(" of block {}", block + 1));
                self.on_bar(|bar| {
                    bar.set_length(*total as u64);
                    bar.set_position(*done as u64);
                    bar.set_message(format!("{pass}{}", block.unwrap_or_default()));
                });
            }
            TrainEvent::Rates { rates, .. } => {
                let (quantizer, weights) = (rates.quantizer, rates.weights);
                self.line(format!(
                    "rates found: {quantizer:.1} (step sizes and zero points), {weights:.1} (weights)"
                ));
            }
            TrainEvent::BlockEnd { .. } => {}
        }
    }

    fn begin(&mut self, name: String) {
        self.clear();
        self.bar = Some(bar(0, name));
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Writes a line above the bar, where there is one.
    fn line(&self, line: String) {
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.println(line),
            _ => eprintln!("{line}"),
        }
    }

    fn on_bar(&self, change: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &self.bar {
            change(bar);
        }
    }
}

impl Drop for TrainingBar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn name(phase: Phase) -> String {
    let stage = match phase {
        Phase::BlockAp => StageName::BlockAp,
        Phase::E2eAp => StageName::E2eAp,
        Phase::E2eQp => StageName::E2eQp,
    };
    stage.to_string()
}

fn title(epoch: &Epoch) -> String {
    format!("{} {}/{}", name(epoch.phase), epoch.number, epoch.epochs)
}

/// A loss: the reconstruction error of a block, which may be tiny, or what E2E-QP trains on.
fn shown(phase: Phase, loss: f64) -> String {
    match phase {
        Phase::BlockAp if loss >= 1e-3 => format!("loss {loss:.6}"),
        Phase::BlockAp => format!("loss {loss:.3e}"),
        Phase::E2eAp | Phase::E2eQp => format!("loss {loss:.4}"),
    }
}
