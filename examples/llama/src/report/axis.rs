use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// An axis, linear or logarithmic, with round numbers as ticks.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    range: Range<f64>,
    log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// From `start` to `end`, which has to be larger.
    pub fn linear(start: f64, end: f64) -> Self {
        let step = round_up((end - start) / 8.0);
        let first = (start / step).ceil();
        let count = ((end / step).floor() - first).max(0.0) as usize;
        let ticks = (0..=count).map(|tick| (first + tick as f64) * step);
        Self {
            range: start..end,
            log: false,
            ticks: ticks.collect(),
        }
    }

    /// From 0 to a little more than the largest value.
    pub fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let largest = values.into_iter().fold(0.0, f64::max);
        let end = if largest > 0.0 { 1.12 * largest } else { 1.0 };
        Self::linear(0.0, end)
    }

    /// All of the values, which have to be positive, and a margin.
    pub fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (mut least, mut largest) = (f64::INFINITY, 0.0f64);
        for value in values {
            (least, largest) = (least.min(value), largest.max(value));
        }
        if least > largest {
            (least, largest) = (1.0, 10.0);
        }
        let (start, end) = (least / 1.3, largest * 1.3);
        let decades = (end / start).log10();
        // Every so many decades where there are many, and parts of one where there are few.
        let step = (decades / 6.0).ceil().max(1.0);
        let parts: &[f64] = match decades {
            d if d < 1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
            d if d < 3.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let first = (start.log10() / step).floor() as i32;
        let last = (end.log10() / step).ceil() as i32;
        let ticks = (first..=last).flat_map(|decade| {
            let decade = 10f64.powf(f64::from(decade) * step);
            parts.iter().map(move |part| part * decade)
        });
        Self {
            ticks: ticks.filter(|tick| (start..=end).contains(tick)).collect(),
            range: start..end,
            log: true,
        }
    }

    /// Marked at these values only.
    pub fn with_ticks(mut self, ticks: impl IntoIterator<Item = f64>) -> Self {
        self.ticks = ticks.into_iter().collect();
        self
    }

    /// Where the axis begins.
    pub fn start(&self) -> f64 {
        self.range.start
    }
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn round_up(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    let parts = [1.0, 2.0, 5.0];
    let part = parts
        .into_iter()
        .find(|part| step <= part * decade * (1.0 + 1e-9));
    part.unwrap_or(10.0) * decade
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        let (start, end) = (scale(self.range.start), scale(self.range.end));
        let part = (scale(*value) - start) / (end - start);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            Axis::linear(0.0, 12.0).ticks,
            [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
        );
        let narrow = Axis::log([19.4, 54.8]);
        assert_eq!(narrow.ticks, [15.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        let wide = Axis::log([1e-9, 1e9]);
        assert!((3..=8).contains(&wide.ticks.len()), "{wide:?}");
        for axis in [Axis::log([]), Axis::log([3.0, 3.0]), Axis::from_zero([])] {
            assert!(
                !axis.ticks.is_empty() && axis.range.start < axis.range.end,
                "{axis:?}"
            );
        }
    }

    #[test]
    fn a_log_axis_is_even_in_ratios() {
        let axis = Axis::log([1.3, 100.0 / 1.3]);
        let at = |value: f64| axis.map(&value, (0, 200));
        assert_eq!((at(1.0), at(10.0), at(100.0)), (0, 100, 200));
        // Axes of plots run from below to above.
        assert_eq!(axis.map(&10.0, (300, 100)), 200);
    }
}
