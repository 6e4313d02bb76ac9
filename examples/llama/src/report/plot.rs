use super::axis::Axis;
use super::page::escape;
use crate::error::Error;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Of what is trained on; readable on light and on dark ground, as all of these are.
pub(super) const BLUE: Color = ("#3B82C4", RGBColor(0x3B, 0x82, 0xC4));
/// Of what is validated on.
pub(super) const ORANGE: Color = ("#D97A29", RGBColor(0xD9, 0x7A, 0x29));
/// What else has to be told apart.
pub(super) const GREEN: Color = ("#3F9B62", RGBColor(0x3F, 0x9B, 0x62));
pub(super) const PURPLE: Color = ("#9A6BC2", RGBColor(0x9A, 0x6B, 0xC2));

/// A color as CSS writes it, and as plots take it.
pub(super) type Color = (&'static str, RGBColor);

// The page's style turns these two into the colors of its text and rules, light or dark.
const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
const RULE: RGBColor = RGBColor(0xCC, 0xCC, 0xCC);

/// A plot as inline SVG.
pub(super) struct Plot {
    /// What it shows, in a few words.
    pub title: String,
    /// What can be seen in it, for those who cannot see it.
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    pub x_label: String,
    pub y_label: String,
    /// The text of a tick of the x axis.
    pub x_tick: Box<dyn Fn(f64) -> String>,
    pub marks: Vec<Mark>,
}

/// What is drawn in a plot.
pub(super) enum Mark {
    /// A line through points.
    Line(Vec<(f64, f64)>, Color),
    /// A dot at each point.
    Dots(Vec<(f64, f64)>, Color),
    /// A bar from the x axis up, from one x to another.
    Bar([f64; 2], f64, Color),
    /// A text above a point.
    Label((f64, f64), String),
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Plot {
    /// The plot as an SVG element with title and description.
    pub fn svg(&self) -> Result<String, Error> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (860, 320)).into_drawing_area();
            let drawn = self.draw(&area).and_then(|()| area.present());
            drawn.map_err(|error| Error::Plot {
                plot: self.title.clone(),
                message: error.to_string(),
            })?;
        }
        let (title, description) = (escape(&self.title), escape(&self.description));
        // Inside of a page an SVG element needs no name space.
        let svg = svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", " role=\"img\"", 1);
        let named = format!(">\n<title>{title}</title>\n<desc>{description}</desc>\n");
        Ok(svg.replacen(">\n", &named, 1))
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        let text = ("sans-serif", 15).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(RULE)
            .light_line_style(TRANSPARENT)
            .axis_style(RULE)
            .label_style(text.clone())
            .axis_desc_style(text.clone())
            .x_desc(self.x_label.as_str())
            .y_desc(self.y_label.as_str())
            .x_label_formatter(&|value| (self.x_tick)(*value))
            .y_label_formatter(&|value| number(*value))
            .draw()?;
        let above = text.pos(Pos::new(HPos::Center, VPos::Bottom));
        let floor = self.y.start();
        for mark in &self.marks {
            match mark {
                Mark::Line(points, (_, color)) => {
                    let line = PathElement::new(points.clone(), color.stroke_width(2));
                    chart.draw_series([line])?;
                }
                Mark::Dots(points, (_, color)) => {
                    let dot = |point: &(f64, f64)| Circle::new(*point, 4, color.filled());
                    chart.draw_series(points.iter().map(dot))?;
                }
                Mark::Bar([from, to], height, (_, color)) => {
                    let corners = [(*from, floor), (*to, *height)];
                    chart.draw_series([Rectangle::new(corners, color.filled())])?;
                }
                Mark::Label(point, label) => {
                    let label =
                        EmptyElement::at(*point) + Text::new(label.clone(), (0, -6), above.clone());
                    chart.draw_series([label])?;
                }
            }
        }
        Ok(())
    }
}

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}").replace(".00e", "e");
    }
    let digits = match size {
        _ if size >= 1000.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// Points whose values a logarithmic axis can show.
pub(super) fn positive(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let shown = |point: &&(f64, f64)| point.1.is_finite() && point.1 > 0.0;
    points.iter().filter(shown).copied().collect()
}

/// At most so many points: neighbors are averaged.
pub(super) fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(most).max(1);
    let mean = |points: &[(f64, f64)]| {
        let (x, y) = points
            .iter()
            .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (x / points.len() as f64, y / points.len() as f64)
    };
    points.chunks(size).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1e-5, "1e-5"),
            (21.653, "21.7"),
            (300.0, "300"),
            (601_856.0, "601856"),
            (1.5e7, "1.50e7"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn many_points_become_few() {
        let points: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(
            thin(&points, 5),
            [(0.5, 1.0), (2.5, 1.0), (4.5, 1.0), (6.5, 1.0), (8.5, 1.0)]
        );
        assert_eq!(thin(&points, 100), points);
        assert!(thin(&[], 5).is_empty());
        assert_eq!(
            positive(&[(0.0, 0.0), (1.0, f64::NAN), (2.0, 3.0)]),
            [(2.0, 3.0)]
        );
    }
}
