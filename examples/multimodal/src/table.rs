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
        write!(text, "{name:<9}{:<16}{:>12}", "stage", "bits/weight").expect("text grows");
        for kind in world.kinds().iter().chain(&["all"]) {
            write!(text, "{kind:>11}").expect("text grows");
        }
        writeln!(text, "{:>9}", "seconds").expect("text grows");
        for row in rows {
            let (scheme, stage, bits) = (&row.scheme, &row.stage, row.bits_per_weight);
            write!(text, "{scheme:<9}{stage:<16}{bits:>12.2}").expect("text grows");
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
/// precision, and the part of what rounding loses that training brings back. Greedy answers of all kinds.
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
            let [full, rounded, tuned] = [full, row, tuned].map(|row| 100.0 * row.greedy.all);
            let (lost, left) = (full - rounded, full - tuned);
            writeln!(
                text,
                "{}: rounding loses {lost:.1} points, {left:.1} are lost in the end ({:.0} % brought back)",
                row.scheme,
                100.0 * (lost - left) / lost.max(1e-9)
            )
            .expect("text grows");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scheme: &str, stage: &str, all: f64) -> Row {
        let marks = Marks {
            by_kind: vec![all; World::Tones.kinds().len()],
            all,
        };
        Row {
            scheme: scheme.into(),
            stage: stage.into(),
            bits_per_weight: 2.0,
            greedy: marks.clone(),
            sampled: marks,
            seconds: 1.0,
        }
    }

    #[test]
    fn rows_line_up_and_are_summed_up() {
        let rows = [
            row("-", "full-precision", 0.98),
            row("w2g64", "rtn", 0.18),
            row("w2g64", "e2e-qp", 0.9),
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
            "w2g64: rounding loses 80.0 points, 8.0 are lost in the end (90 % brought back)\n"
        );
    }
}
