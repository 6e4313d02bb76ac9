//! The loss of every block in Block-AP.

use super::axis::Axis;
use super::curves::Curves;
use super::page::{figure, paragraph, section};
use super::plot::{BLUE, Mark, ORANGE, Plot, number, positive, thin};
use crate::error::Error;

/// Points of a block's curve.
const POINTS: usize = 40;

pub(super) fn block_losses(curves: &Curves) -> Result<String, Error> {
    let title = "Block-AP: loss of every block";
    let blocks = &curves.blocks;
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
        let none = paragraph("Block-AP did not run.");
        return Ok(section("block-losses", title, &none));
    };
    let (mut marks, mut shown) = (Vec::new(), Vec::new());
    for curve in blocks {
        let moved = |points: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
            let x = curve.block as f64;
            points
                .into_iter()
                .map(|(at, loss)| (x + at, loss))
                .collect()
        };
        let train = moved(thin(&positive(&curve.train), POINTS));
        let valid = moved(positive(&curve.valid));
        shown.extend(train.iter().chain(&valid).map(|point| point.1));
        marks.push(Mark::Line(train, BLUE));
        marks.push(Mark::Dots(valid, ORANGE));
    }
    let final_losses = |curve: &super::curves::Curve| {
        let last = |points: &[(f64, f64)]| points.last().map_or("none".into(), |p| number(p.1));
        format!("{} (validation {})", last(&curve.train), last(&curve.valid))
    };
    let every = blocks.len().div_ceil(16);
    let ticks = (first.block..=last.block + 1).step_by(every);
    let ticks = ticks.map(|block| block as f64);
    let plot = Plot {
        title: title.to_string(),
        description: format!(
            "Reconstruction error over blocks {} to {}, on a logarithmic scale. The first block ends at {}, the last at {}.",
            first.block,
            last.block,
            final_losses(first),
            final_losses(last)
        ),
        x: Axis::linear(first.block as f64, last.block as f64 + 1.05).with_ticks(ticks),
        y: Axis::log(shown),
        x_label: "block".to_string(),
        y_label: "mean squared error".to_string(),
        x_tick: Box::new(number),
        marks,
    };
    let legend = [(BLUE, "training"), (ORANGE, "validation, after each epoch")];
    Ok(section(
        "block-losses",
        title,
        &figure(&plot.svg()?, &legend),
    ))
}
