//! The loss of the whole model in E2E-QP.

use super::axis::Axis;
use super::curves::Curves;
use super::page::{figure, paragraph, section};
use super::plot::{BLUE, Mark, ORANGE, Plot, number, positive, thin};
use crate::error::Error;
use burn_eqat::Comparison;

/// Points of the curve.
const POINTS: usize = 200;

pub(super) fn e2e_loss(curves: &Curves, comparison: Option<Comparison>) -> Result<String, Error> {
    let title = "End to end: loss over steps";
    let train = thin(&positive(&curves.e2e.train), POINTS);
    let Some(last) = curves.e2e.train.last() else {
        let none = paragraph("Neither E2E-AP nor E2E-QP ran.");
        return Ok(section("e2e-loss", title, &none));
    };
    let mut valid = positive(&curves.e2e.valid);
    if let Some(losses) = comparison.filter(|losses| losses.before.is_finite()) {
        valid.insert(0, (0.0, losses.before));
    }
    let shown = train.iter().chain(&valid).map(|point| point.1);
    let described = comparison.map_or(String::new(), |losses| {
        let (before, after) = (number(losses.before), number(losses.after));
        format!(" The validation loss goes from {before} to {after}.")
    });
    let plot = Plot {
        title: title.to_string(),
        description: format!(
            "The loss in nats (cross-entropy, or the divergence from the original's predictions) over {} training batches, which ends at {}.{described}",
            curves.e2e.train.len(),
            number(last.1)
        ),
        x: Axis::linear(0.0, 1.02 * last.0),
        y: Axis::log(shown),
        x_label: "training batch".to_string(),
        y_label: "loss, nats".to_string(),
        x_tick: Box::new(number),
        marks: vec![Mark::Line(train, BLUE), Mark::Dots(valid, ORANGE)],
    };
    let legend = [
        (BLUE, "training"),
        (ORANGE, "validation, before and after each epoch"),
    ];
    Ok(section("e2e-loss", title, &figure(&plot.svg()?, &legend)))
}
