use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};

/// A cosine from a learning rate down to a part of it, after a linear warm-up, with one step per iteration.
///
/// Step `t` (from 0) of `warm_up` has `rate * (t + 1) / warm_up`; the cosine over the rest of `steps`
/// starts at `rate` and ends at `rate * floor`.
///
/// ```
/// use burn::lr_scheduler::LrScheduler;
/// use burn_eqat::train::CosineSchedule;
///
/// // Up to 1 in 4 of 100 steps, then down to 0.1.
/// let mut schedule = CosineSchedule::new(1.0, 0.1, 4, 100);
/// assert_eq!((schedule.step(), schedule.step()), (0.25, 0.5));
/// assert_eq!(schedule.at(4), 1.0);
/// assert!((schedule.at(100) - 0.1).abs() < 1e-9);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineSchedule {
    rate: f64,
    floor: f64,
    warm_up: usize,
    steps: usize,
    done: usize,
}

impl CosineSchedule {
    /// A schedule of `steps` iterations.
    pub fn new(rate: f64, floor: f64, warm_up: usize, steps: usize) -> Self {
        Self {
            rate,
            floor,
            warm_up,
            steps,
            done: 0,
        }
    }

    /// The learning rate of iteration `step`.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let length = self.steps.saturating_sub(self.warm_up).max(1);
        let part = ((step - self.warm_up) as f64 / length as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (core::f64::consts::PI * part).cos());
        self.rate * (self.floor + (1.0 - self.floor) * cosine)
    }
}

impl LrScheduler for CosineSchedule {
    fn step(&mut self) -> f64 {
        self.done += 1;
        self.at(self.done - 1)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("done", self.done as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(done) = record.scalar::<u64>("done") {
            self.done = done as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_and_falls_to_the_floor() {
        let schedule = CosineSchedule::new(1.0, 0.05, 2, 12);
        let rates: Vec<f64> = (0..13).map(|t| schedule.at(t)).collect();
        assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
        assert!((rates[7] - (0.05 + 0.95 / 2.0)).abs() < 1e-12);
        assert!((rates[12] - 0.05).abs() < 1e-12);
        assert!(
            rates[2..]
                .windows(2)
                .all(|pair| pair[1] < pair[0] || pair[0] == 1.0)
        );
    }

    #[test]
    fn goes_on_where_it_was() {
        let mut schedule = CosineSchedule::new(1.0, 0.0, 0, 10);
        (0..4).for_each(|_| {
            schedule.step();
        });
        let mut other = CosineSchedule::new(1.0, 0.0, 0, 10);
        other.load_record(schedule.to_record());
        assert_eq!(schedule.step(), other.step());
    }
}
