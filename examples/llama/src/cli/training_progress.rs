use super::dashboard::Dashboard;
use super::progress::{interrupted, interrupter};
use super::training_bar::TrainingBar;
use crate::error::Error;
use crate::quantize::peak_rss_mb;
use burn::train::renderer::default_renderer;
use burn_eqat::train::{ProgressLines, TrainError, TrainEvent};
use std::io::IsTerminal;

/// Shows training on standard error: a bar on a terminal, and lines of text elsewhere, as under `nohup`. If it is asked for,
/// Burn's dashboard on standard output instead, where that is a terminal.
pub(super) enum TrainingProgress {
    Dashboard(Box<Dashboard>),
    Bar(Box<TrainingBar>),
    Lines(Box<ProgressLines>),
}

impl TrainingProgress {
    /// Fails if a dashboard is asked for of a program that has none.
    pub(super) fn check(tui: bool) -> Result<(), Error> {
        if tui && !cfg!(feature = "tui") {
            let message = "--tui needs Burn's dashboard: build with the cargo feature tui";
            return Err(Error::Setting(message.to_string()));
        }
        Ok(())
    }

    pub(super) fn new(tui: bool) -> Self {
        // The renderer of a program without a dashboard prints a line for every batch.
        if tui && cfg!(feature = "tui") && std::io::stdout().is_terminal() {
            let open = |over| default_renderer(interrupter(), (over > 0).then_some(over));
            return TrainingProgress::Dashboard(Box::new(Dashboard::new(open)));
        }
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
            TrainingProgress::Dashboard(dashboard) => dashboard.event(event),
            TrainingProgress::Bar(bar) => bar.event(event),
            TrainingProgress::Lines(lines) => lines.event(event),
        }
        if interrupted() {
            return Err(TrainError::Interrupted);
        }
        Ok(())
    }

    /// Makes room for another bar, or for text.
    pub(super) fn clear(&mut self) {
        match self {
            TrainingProgress::Dashboard(dashboard) => dashboard.close(),
            TrainingProgress::Bar(bar) => bar.clear(),
            TrainingProgress::Lines(_) => {}
        }
    }
}
