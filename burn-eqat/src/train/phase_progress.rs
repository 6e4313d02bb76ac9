use super::{DataSplit, TimeLeft, TrainEvent};
use std::time::{Duration, Instant};

/// What validating a batch costs beside a training step, which runs the model forward and backward.
const VALIDATION: f64 = 1.0 / 3.0;

/// How far a phase is and how long it still takes, all of its epochs counted. It is fed with the phase's
/// [events](TrainEvent).
///
/// ```
/// # use burn_eqat::train::{PhaseProgress, TrainError, TrainEvent};
/// let mut progress = PhaseProgress::default();
/// let mut on_event = |event: TrainEvent| -> Result<(), TrainError> {
///     progress.event(&event);
///     if let (TrainEvent::EpochEnd { .. }, Some(left)) = (&event, progress.time_left()) {
///         println!("{} of {}, {left} left", progress.done(), progress.total());
///     }
///     Ok(())
/// };
/// ```
#[derive(Clone, Debug, Default)]
pub struct PhaseProgress {
    start: Option<Instant>,
    now: Option<Instant>,
    /// The part that was done when `start` was: more than nothing in a run that goes on.
    before: f64,
    /// Whether a run goes on whose first batch is still to come.
    resumes: bool,
    epochs: usize,
    /// The epoch under way, from 1; those before it are over.
    epoch: usize,
    train: Split,
    valid: Split,
}

/// Batches or items of an epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Split {
    done: usize,
    total: usize,
}

impl PhaseProgress {
    /// Takes an event. A phase that starts makes a new beginning.
    pub fn event(&mut self, event: &TrainEvent) {
        self.event_at(event, Instant::now());
    }

    /// Training batches (Block-AP) or items (E2E-QP) done in all epochs so far.
    pub fn done(&self) -> usize {
        self.epochs_over() * self.train.total + self.train.done
    }

    /// Training batches or items of all epochs; 0 before the first epoch began.
    pub fn total(&self) -> usize {
        self.epochs * self.train.total
    }

    /// The part of the phase that is done, validation counted, from 0 to 1.
    pub fn fraction(&self) -> f64 {
        if self.epochs == 0 {
            return 0.0;
        }
        let work = |train: usize, valid: usize| train as f64 + VALIDATION * valid as f64;
        let whole = work(self.train.total, self.valid.total);
        let part = if whole > 0.0 {
            work(self.train.done, self.valid.done) / whole
        } else {
            0.0
        };
        ((self.epochs_over() as f64 + part) / self.epochs as f64).min(1.0)
    }

    /// How long the phase takes from the last event on, if it goes on as fast as it did until then; `None` where nothing is
    /// known yet. A phase that stops early is over sooner.
    pub fn time_left(&self) -> Option<TimeLeft> {
        let elapsed = self.now?.duration_since(self.start?).as_secs_f64();
        let done = self.fraction();
        // Beyond what a duration can hold, nothing is known either.
        let left = Duration::try_from_secs_f64(elapsed * (1.0 - done) / (done - self.before));
        left.ok().map(TimeLeft)
    }

    fn epochs_over(&self) -> usize {
        self.epoch.saturating_sub(1)
    }

    fn event_at(&mut self, event: &TrainEvent, now: Instant) {
        match event {
            TrainEvent::PhaseStart { epochs, .. } => self.start(*epochs, now),
            TrainEvent::SplitStart {
                epoch,
                split,
                total,
            } => self.split(epoch.number, *split, *total, now),
            TrainEvent::Batch { split, done, .. } => self.batch(*split, *done, now),
            TrainEvent::EpochEnd { epoch } => self.epoch_end(epoch.number, now),
            TrainEvent::Resumed { .. } => self.resumes = true,
            TrainEvent::SplitEnd { .. }
            | TrainEvent::Skipped { .. }
            | TrainEvent::Pass { .. }
            | TrainEvent::BlockEnd { .. }
            | TrainEvent::Rates { .. }
            | TrainEvent::Comparison { .. } => {}
        }
    }

    pub(super) fn start(&mut self, epochs: usize, now: Instant) {
        *self = Self {
            start: Some(now),
            now: Some(now),
            epochs,
            ..Self::default()
        };
    }

    pub(super) fn split(&mut self, epoch: usize, split: DataSplit, total: usize, now: Instant) {
        (self.now, self.epoch) = (Some(now), epoch);
        let started = Split { done: 0, total };
        match split {
            DataSplit::Train => {
                self.train = started;
                // Validation of an epoch is as long as that of the epoch before.
                self.valid.done = 0;
            }
            DataSplit::Valid => self.valid = started,
        }
    }

    pub(super) fn batch(&mut self, split: DataSplit, done: usize, now: Instant) {
        self.now = Some(now);
        match split {
            DataSplit::Train => self.train.done = done,
            DataSplit::Valid => self.valid.done = done,
        }
        if std::mem::take(&mut self.resumes) {
            // What was done before, and loading it, says nothing of the speed.
            (self.start, self.before) = (Some(now), self.fraction());
        }
    }

    pub(super) fn epoch_end(&mut self, epoch: usize, now: Instant) {
        self.now = Some(now);
        self.epoch = epoch + 1;
        (self.train.done, self.valid.done) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_says_nothing_of_the_speed() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut progress = PhaseProgress::default();
        progress.start(4, at(0));
        progress.resumes = true;
        progress.split(3, DataSplit::Train, 10, at(50));
        progress.batch(DataSplit::Train, 5, at(60));
        assert_eq!(progress.time_left(), None);
        progress.batch(DataSplit::Train, 10, at(70));
        // Half an epoch took ten seconds, and one is left.
        assert_eq!(
            progress.time_left(),
            Some(TimeLeft(Duration::from_secs(20)))
        );
    }

    #[test]
    fn time_left_is_that_of_all_epochs() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let left = |seconds: u64| Some(TimeLeft(Duration::from_secs(seconds)));
        let mut progress = PhaseProgress::default();
        assert_eq!((progress.total(), progress.time_left()), (0, None));
        progress.start(4, at(0));
        assert_eq!(progress.time_left(), None);
        progress.split(1, DataSplit::Train, 10, at(0));
        progress.batch(DataSplit::Train, 5, at(5));
        assert_eq!((progress.done(), progress.total()), (5, 40));
        assert_eq!(progress.time_left(), left(35));
        progress.batch(DataSplit::Train, 10, at(10));
        // Six batches that cost a third: twelve seconds an epoch.
        progress.split(1, DataSplit::Valid, 6, at(10));
        progress.batch(DataSplit::Valid, 6, at(12));
        progress.epoch_end(1, at(12));
        assert_eq!(progress.time_left(), left(36));
        progress.split(2, DataSplit::Train, 10, at(12));
        progress.batch(DataSplit::Train, 10, at(22));
        let seconds = progress.time_left().unwrap().0.as_secs_f64();
        assert!((seconds - 26.0).abs() < 1e-6, "{seconds}");
        assert_eq!((progress.done(), progress.total()), (20, 40));
        progress.epoch_end(4, at(48));
        assert_eq!(progress.done(), 40);
        assert_eq!(progress.time_left(), left(0));
        // An epoch that ends early, as a block does that is good enough, leaves only what comes after it.
        progress.start(4, at(48));
        progress.split(3, DataSplit::Train, 10, at(50));
        assert_eq!(progress.time_left(), left(2));
    }
}
