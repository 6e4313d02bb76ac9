use super::progress::interrupted;
use super::training_bar::TrainingBar;
use crate::quantize::peak_rss_mb;
use burn_eqat::train::{ProgressLines, TrainError, TrainEvent};
use std::io::IsTerminal;

/// Shows training on standard error: a bar on a terminal, and lines of text elsewhere, as under `nohup`.
pub(super) enum TrainingProgress {
    Bar(Box<TrainingBar>),
    Lines(Box<ProgressLines>),
}

impl TrainingProgress {
    pub(super) fn new() -> Self {
        if std::io::stderr().is_terminal() {
            return TrainingProgress::Bar(Box::default());
        }
        let lines = ProgressLines::stderr()
            .with_note(|| peak_rss_mb().map(|peak| format!("peak memory {peak:.0} MB")));
        TrainingProgress::Lines(Box::new(lines))
    }

    /// Shows an event. Stops the phase once the work was interrupted.
    pub(super) fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        match self {
            TrainingProgress::Bar(bar) => bar.event(event),
            TrainingProgress::Lines(lines) => lines.event(event),
        }
        if interrupted() {
            return Err(TrainError::Interrupted);
        }
        Ok(())
    }

    /// Makes room for another bar.
    pub(super) fn clear(&mut self) {
        if let TrainingProgress::Bar(bar) = self {
            bar.clear();
        }
    }
}
