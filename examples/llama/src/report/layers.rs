//! Bits and bytes of each packed weight.

use super::axis::Axis;
use super::page::{figure, paragraph, section, table};
use super::plot::{BLUE, Color, GREEN, Mark, ORANGE, PURPLE, Plot, number};
use crate::error::Error;
use burn_eqat::{Bits, LayerSize};

pub(super) fn layers(layers: &[LayerSize]) -> Result<String, Error> {
    let title = "Bits and bytes by layer";
    if layers.is_empty() {
        return Ok(section("layers", title, &paragraph("Nothing is packed.")));
    }
    let legend: Vec<(Color, &str)> = [Bits::Two, Bits::Three, Bits::Four, Bits::Eight]
        .into_iter()
        .filter(|bits| layers.iter().any(|layer| layer.scheme.bits == *bits))
        .map(|bits| (color(bits), name(bits)))
        .collect();
    let bits = bars(
        "Bits of a weight",
        "bits",
        layers,
        LayerSize::bits_per_weight,
    )?;
    let bytes = bars("Bytes of a layer", "kB", layers, |layer| {
        layer.bytes as f64 / 1e3
    })?;
    let mut body = figure(&bits, &legend) + &figure(&bytes, &legend);
    let row = |layer: &LayerSize| {
        vec![
            layer.path.clone(),
            layer.scheme.to_string(),
            layer.weights.to_string(),
            layer.bytes.to_string(),
            format!("{:.3}", layer.bits_per_weight()),
        ]
    };
    let rows: Vec<Vec<String>> = layers.iter().map(row).collect();
    let head = ["layer", "scheme", "weights", "bytes", "bits/weight"];
    let count = layers.len();
    body += &format!("<details>\n<summary>All {count} layers</summary>\n");
    body += &table(&head, &rows);
    body += "</details>\n";
    Ok(section("layers", title, &body))
}

fn bars(
    title: &str,
    unit: &str,
    layers: &[LayerSize],
    value: impl Fn(&LayerSize) -> f64,
) -> Result<String, Error> {
    let bar = |(at, layer): (usize, &LayerSize)| {
        let at = at as f64;
        Mark::Bar([at + 0.1, at + 0.9], value(layer), color(layer.scheme.bits))
    };
    let values = || layers.iter().map(&value);
    let (least, largest) = values().fold((f64::INFINITY, 0.0f64), |(least, largest), value| {
        (least.min(value), largest.max(value))
    });
    let plot = Plot {
        title: title.to_string(),
        description: format!(
            "{} layers in the model's order, from {} to {} {unit}.",
            layers.len(),
            number(least),
            number(largest)
        ),
        x: Axis::linear(0.0, layers.len() as f64),
        y: Axis::from_zero(values()),
        x_label: "packed layer, in the model's order".to_string(),
        y_label: unit.to_string(),
        x_tick: Box::new(number),
        marks: layers.iter().enumerate().map(bar).collect(),
    };
    plot.svg()
}

fn color(bits: Bits) -> Color {
    match bits {
        Bits::Two => BLUE,
        Bits::Three => GREEN,
        Bits::Four => ORANGE,
        Bits::Eight => PURPLE,
    }
}

fn name(bits: Bits) -> &'static str {
    match bits {
        Bits::Two => "2 bits",
        Bits::Three => "3 bits",
        Bits::Four => "4 bits",
        Bits::Eight => "8 bits",
    }
}
