//! What was measured after each stage: perplexity, time and memory.

use super::axis::Axis;
use super::page::{figure, paragraph, section};
use super::plot::{BLUE, Color, GREEN, Mark, Plot, number};
use crate::error::Error;
use crate::quantize::MeasuredStage;

/// Perplexity by stage, on a logarithmic scale.
pub(super) fn perplexity(stages: &[MeasuredStage]) -> Result<String, Error> {
    let title = "Perplexity by stage";
    let shown: Vec<(usize, f64)> = stages
        .iter()
        .enumerate()
        .map(|(at, stage)| (at, stage.perplexity))
        .filter(|(_, value)| value.is_finite() && *value > 0.0)
        .collect();
    let points: Vec<(f64, f64)> = shown
        .iter()
        .map(|(at, value)| (*at as f64, *value))
        .collect();
    let mut marks = vec![Mark::Line(points.clone(), BLUE), Mark::Dots(points, BLUE)];
    for (at, value) in &shown {
        marks.push(Mark::Label((*at as f64, *value), format!("{value:.3}")));
    }
    let y = Axis::log(shown.iter().map(|(_, value)| *value));
    let plot = stage_plot(
        title,
        "perplexity",
        stages,
        |stage| stage.perplexity,
        y,
        marks,
    );
    Ok(section("perplexity", title, &figure(&plot.svg()?, &[])))
}

/// Time and peak memory by stage.
pub(super) fn cost(stages: &[MeasuredStage]) -> Result<String, Error> {
    let mut body = bars("Time of each stage", "seconds", stages, BLUE, |stage| {
        Some(stage.seconds)
    })?;
    body += &bars("Most memory so far", "MB", stages, GREEN, |stage| {
        stage.peak_rss_mb
    })?;
    Ok(section("cost", "Time and peak memory", &body))
}

fn bars(
    title: &str,
    unit: &str,
    stages: &[MeasuredStage],
    color: Color,
    value: impl Fn(&MeasuredStage) -> Option<f64>,
) -> Result<String, Error> {
    let values: Vec<Option<f64>> = stages.iter().map(&value).collect();
    if values.iter().all(Option::is_none) {
        return Ok(paragraph(&format!("{title}: the system does not say.")));
    }
    let mut marks = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let (Some(value), at) = (value, at as f64) else {
            continue;
        };
        marks.push(Mark::Bar([at - 0.3, at + 0.3], *value, color));
        marks.push(Mark::Label((at, *value), format!("{value:.1}")));
    }
    let y = Axis::from_zero(values.iter().flatten().copied());
    let of = |stage: &MeasuredStage| value(stage).unwrap_or_default();
    let plot = stage_plot(title, unit, stages, of, y, marks);
    Ok(figure(&plot.svg()?, &[(color, title)]))
}

fn stage_plot(
    title: &str,
    unit: &str,
    stages: &[MeasuredStage],
    value: impl Fn(&MeasuredStage) -> f64,
    y: Axis,
    marks: Vec<Mark>,
) -> Plot {
    let names: Vec<String> = stages.iter().map(|stage| stage.name.to_string()).collect();
    let described: Vec<String> = stages
        .iter()
        .map(|stage| format!("{} {}", stage.name, number(value(stage))))
        .collect();
    let last = names.len().max(1) as f64;
    let ticks = (0..names.len()).map(|at| at as f64);
    Plot {
        title: title.to_string(),
        description: format!("In {unit}: {}.", described.join(", ")),
        x: Axis::linear(-0.6, last - 0.4).with_ticks(ticks),
        y,
        x_label: "stage".to_string(),
        y_label: unit.to_string(),
        x_tick: Box::new(move |at| names.get(at as usize).cloned().unwrap_or_default()),
        marks,
    }
}
