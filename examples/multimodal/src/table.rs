//! The table that the program prints.

use crate::data::World;
use crate::evaluate::Marks;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A model at a stage, and what it answered correctly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `-` in full precision.
    pub scheme: String,
    /// The part of the recipe.
    pub stage: String,
    /// Bits of a quantized weight, with its share of step sizes and zero points.
    pub bits_per_weight: f64,
    /// Mean cross-entropy of the tokens of answers about unseen samples, in nats.
    pub loss: f64,
    /// Answers of the likeliest words.
    pub greedy: Marks,
    /// Sampled answers.
    pub sampled: Marks,
    /// The time of the stage.
    pub seconds: f64,
}

/// All rows of a world as text: greedy and sampled answers one below the other.
pub fn table(world: World, rows: &[Row]) -> String {
    let mut text = String::new();
    for (name, sampled) in [("greedy", false), ("sampled", true)] {
        write!(
            text,
            "{name:<9}{:<16}{:>12}{:>9}",
            "stage", "bits/weight", "loss"
        )
        .expect("text grows");
        for kind in world.kinds().iter().chain(&["all"]) {
            write!(text, "{kind:>11}").expect("text grows");
        }
        writeln!(text, "{:>9}", "seconds").expect("text grows");
        for row in rows {
            let (scheme, stage, bits) = (&row.scheme, &row.stage, row.bits_per_weight);
            let loss = row.loss;
            write!(text, "{scheme:<9}{stage:<16}{bits:>12.2}{loss:>9.4}").expect("text grows");
            let marks = if sampled { &row.sampled } else { &row.greedy };
            for part in marks.by_kind.iter().chain([&marks.all]) {
                write!(text, "{:>9.1} %", 100.0 * part).expect("text grows");
            }
            writeln!(text, "{:>9.1}", row.seconds).expect("text grows");
        }
        text.push('\n');
    }
    text
}

/// What a world's rows say of the end of the recipe: for each scheme, the points that E2E-QP's model has less than full
/// precision (greedy answers of all kinds), and the part of what rounding adds to the loss that training takes away.
pub fn summary(rows: &[Row]) -> String {
    let mut text = String::new();
    let Some(full) = rows.first() else {
        return text;
    };
    let of = |scheme: &str, stage: &str| {
        let mut rows = rows.iter();
        rows.find(|row| row.scheme == scheme && row.stage == stage)
    };
    for row in rows.iter().filter(|row| row.stage == "rtn") {
        if let Some(tuned) = of(&row.scheme, "e2e-qp") {
            let points = [full, row, tuned].map(|row| 100.0 * row.greedy.all);
            let [rounded, trained] = [points[0] - points[1], points[0] - points[2]];
            let [risen, left] = [row.loss - full.loss, tuned.loss - full.loss];
            writeln!(
                text,
                "{}: rounding loses {rounded:.1} points, {trained:.1} are lost in the end; it adds {risen:.4} to the loss, of \
                 which {:.0} % are gone in the end",
                row.scheme,
                100.0 * (risen - left) / risen.max(1e-9)
            )
            .expect("text grows");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scheme: &str, stage: &str, all: f64, loss: f64) -> Row {
        let marks = Marks {
            by_kind: vec![all; World::Tones.kinds().len()],
            all,
        };
        Row {
            scheme: scheme.into(),
            stage: stage.into(),
            bits_per_weight: 2.0,
            loss,
            greedy: marks.clone(),
            sampled: marks,
            seconds: 1.0,
        }
    }

    #[test]
    fn rows_line_up_and_are_summed_up() {
        let rows = [
            row("-", "full-precision", 0.98, 0.1),
            row("w2g64", "rtn", 0.18, 0.5),
            row("w2g64", "e2e-qp", 0.9, 0.2),
        ];
        let text = table(World::Tones, &rows);
        let widths: Vec<usize> = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::len)
            .collect();
        assert_eq!(widths.len(), 8);
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
        assert_eq!(
            summary(&rows),
            "w2g64: rounding loses 80.0 points, 8.0 are lost in the end; it adds 0.4000 to the loss, of which 75 % are gone in the \
             end\n"
        );
    }
}
