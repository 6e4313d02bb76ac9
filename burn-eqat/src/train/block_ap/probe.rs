//! Learning rates by trial: short runs on the first block that trains.

use super::train::BlockRun;
use super::{BlockStep, BlockTrainer};
use crate::train::event::OnEvent;
use crate::train::{Blockwise, Pass, TrainError, TrainEvent};

/// The most steps of a run.
const STEPS: usize = 128;

/// Factors are powers of two, up to this one and its inverse.
const MOST: i32 = 3;

/// What is less than this part better than the rates that were there does not count: the best rates of the first block need not be those of
/// the others, while rates that are wrong cost more than this.
const MARGIN: f64 = 0.1;

/// What the rates of a phase are to be multiplied by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probed {
    /// The best factor.
    pub factor: f64,
    /// All that were tried, with their validation losses.
    pub tried: Vec<(f64, f64)>,
}

/// Trains copies of a block shortly with half, all and twice the rates, and further on in the direction that is best.
pub(super) fn probe<M: Blockwise>(
    block: &BlockRun<'_, M>,
    trainer: &BlockTrainer<M>,
    on_event: OnEvent<'_>,
) -> Result<Probed, TrainError> {
    let (mut done, steps) = (0, block.steps().min(STEPS));
    let mut pass = || {
        done += 1;
        on_event(TrainEvent::Pass {
            pass: Pass::Rates,
            block: Some(block.index),
            done,
            total: 0,
        })
    };
    search(&mut |factor| {
        let loss = short_run(block, trainer.anew(), factor, steps, &mut pass)?;
        // Rates that are far too high are no error here.
        Ok(loss.unwrap_or(f64::INFINITY))
    })
}

/// The validation loss behind a short run; `None` where a loss or a gradient is not finite.
fn short_run<M: Blockwise>(
    block: &BlockRun<'_, M>,
    mut trainer: BlockTrainer<M>,
    factor: f64,
    steps: usize,
    pass: &mut dyn FnMut() -> Result<(), TrainError>,
) -> Result<Option<f64>, TrainError> {
    let schedule = block.schedule(steps);
    let mut step = 0;
    while step < steps {
        // On several devices, the first one's.
        for samples in block.train.samples()?.take(steps - step) {
            let Some(sample) = samples?.into_iter().next() else {
                continue;
            };
            let rates = block.rates_at(&schedule, step).times(factor);
            match trainer.step(sample, rates)? {
                BlockStep::Taken { .. } => {}
                BlockStep::Loss(_) | BlockStep::Gradient(_) => return Ok(None),
            }
            step += 1;
            pass()?;
        }
    }
    let snapshot = trainer.model().valid();
    let (mut sum, mut count) = (0.0, 0);
    for samples in block.valid.samples()? {
        for sample in samples? {
            let loss: f64 = trainer.validate(&snapshot, sample)?.into_scalar();
            sum += loss;
            count += 1;
            pass()?;
        }
    }
    let loss = sum / f64::from(count.max(1));
    Ok(loss.is_finite().then_some(loss))
}

/// The best of three factors, and of those beyond as long as the last is the best.
fn search(loss_of: &mut dyn FnMut(f64) -> Result<f64, TrainError>) -> Result<Probed, TrainError> {
    let mut tried = Vec::new();
    let mut run = |power: i32| {
        let factor = 2f64.powi(power);
        let loss = loss_of(factor)?;
        tried.push((factor, loss));
        Ok::<_, TrainError>(loss)
    };
    let middle = run(0)?;
    let (direction, next): (i32, f64) = match middle.is_finite() {
        true => {
            let [half, twice] = [run(-1)?, run(1)?];
            if half < twice { (-1, half) } else { (1, twice) }
        }
        // Rates that are far too high: higher ones are no better.
        false => (-1, run(-1)?),
    };
    let (mut power, mut loss) = match next < middle || !middle.is_finite() {
        true => (direction, next),
        false => (0, middle),
    };
    while power != 0 && power.abs() < MOST {
        let next = run(power + direction)?;
        if next >= loss && loss.is_finite() {
            break;
        }
        (power, loss) = (power + direction, next);
    }
    // Rates that are far too low gain little by each doubling: what counts is where it ends.
    if middle.is_finite() && loss >= middle * (1.0 - MARGIN) {
        power = 0;
    }
    tried.sort_by(|one, other| one.0.total_cmp(&other.0));
    Ok(Probed {
        factor: 2f64.powi(power),
        tried,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(loss: impl Fn(f64) -> f64) -> (f64, usize) {
        let probed = search(&mut |factor| Ok(loss(factor))).unwrap();
        let sorted = probed.tried.is_sorted_by(|one, other| one.0 < other.0);
        assert!(sorted, "{:?}", probed.tried);
        (probed.factor, probed.tried.len())
    }

    #[test]
    fn it_goes_where_the_loss_falls() {
        let around = |best: f64| move |factor: f64| 1.0 + (factor / best).log2().powi(2);
        assert_eq!(found(around(1.0)), (1.0, 3));
        assert_eq!(found(around(2.0)), (2.0, 4));
        assert_eq!(found(around(0.25)), (0.25, 5));
        // No further than eight times as much.
        assert_eq!(found(around(100.0)), (8.0, 5));
        assert_eq!(found(around(0.001)), (0.125, 5));
    }

    #[test]
    fn a_small_gain_does_not_count() {
        // It looks on: nothing there is a tenth better.
        assert_eq!(found(|factor| 1.0 + 0.05 * factor), (1.0, 5));
        // Each step gains a little, all of them enough.
        assert_eq!(found(|factor| 2.0 - 0.08 * factor.log2()), (8.0, 5));
    }

    #[test]
    fn rates_that_are_far_too_high_are_left() {
        let below = |most: f64| move |factor: f64| if factor > most { f64::INFINITY } else { 1.0 };
        assert_eq!(found(below(0.6)), (0.5, 3));
        assert_eq!(found(below(0.3)), (0.25, 4));
        // The lowest, where all are.
        assert_eq!(found(below(0.0)), (0.125, 4));
    }
}
