//! A run of `llama quantize` as one page of HTML: no network, plots inline.

mod axis;
mod block_losses;
mod by_stage;
mod curves;
mod e2e_loss;
mod layers;
mod page;
mod plot;

pub(crate) use curves::Curves;

use crate::error::Error;
use crate::quantize::MeasuredStage;
use burn_eqat::files::StagedFile;
use burn_eqat::{LayerSize, StageName};
use std::io::Write;
use std::path::Path;

/// What the page shows.
pub(crate) struct HtmlReport<'a> {
    /// The model's name.
    pub model: &'a str,
    /// What the model is, and how it was quantized: names and values.
    pub facts: Vec<(String, String)>,
    /// What was measured.
    pub stages: &'a [MeasuredStage],
    /// The stage whose model came out.
    pub kept: StageName,
    /// Losses.
    pub curves: &'a Curves,
    /// The packed weights of the model that came out.
    pub layers: &'a [LayerSize],
}

impl HtmlReport<'_> {
    /// Writes the page beside its place first and then into it.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let html = self.html()?;
        let mut staged = StagedFile::begin(path)?;
        let written = staged.file().write_all(html.as_bytes());
        written.map_err(Error::read(path))?;
        Ok(staged.commit()?)
    }

    fn html(&self) -> Result<String, Error> {
        let last = self.stages.last();
        let comparison = last.and_then(|stage| stage.comparison);
        let facts: Vec<Vec<String>> = self
            .facts
            .iter()
            .map(|(name, value)| vec![name.clone(), value.clone()])
            .collect();
        let facts = page::table(&["setting", "value"], &facts);
        let facts = facts.replacen("<table>", "<table class=\"facts\">", 1);
        let body = [
            page::section("settings", "Model and settings", &facts),
            page::section("stages", "Stages", &self.stage_table()),
            by_stage::perplexity(self.stages)?,
            block_losses::block_losses(self.curves)?,
            e2e_loss::e2e_loss(self.curves, comparison)?,
            layers::layers(self.layers)?,
            by_stage::cost(self.stages)?,
        ];
        let title = format!("{}, quantized", self.model);
        Ok(page::page(&title, &body.concat()))
    }

    fn stage_table(&self) -> String {
        let or_dash = |value: Option<f64>| value.map_or("-".to_string(), |v| format!("{v:.1}"));
        let row = |stage: &MeasuredStage| {
            vec![
                stage.name.to_string(),
                format!("{:.3}", stage.perplexity),
                stage.bytes.to_string(),
                format!("{:.3}", stage.bits_per_weight),
                format!("{:.1}", stage.seconds),
                or_dash(stage.cpu_seconds),
                or_dash(stage.peak_rss_mb),
            ]
        };
        let head = [
            "stage",
            "perplexity",
            "bytes",
            "bits/weight",
            "seconds",
            "cpu s",
            "peak MB",
        ];
        let rows: Vec<Vec<String>> = self.stages.iter().map(row).collect();
        let came_out = match self.stages.last() {
            Some(last) if last.is_worse() => last.verdict(self.kept),
            _ => format!("The model that came out is that of {}.", self.kept),
        };
        page::table(&head, &rows) + &page::paragraph(&came_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_eqat::Comparison;

    fn stage(name: StageName, perplexity: f64) -> MeasuredStage {
        MeasuredStage {
            name,
            perplexity,
            bytes: 601_856,
            bits_per_weight: 2.281,
            seconds: 1.5,
            cpu_seconds: None,
            peak_rss_mb: Some(281.0),
            comparison: None,
        }
    }

    fn report(stages: &[MeasuredStage], curves: &Curves, layers: &[LayerSize]) -> String {
        let report = HtmlReport {
            model: "<b>tiny</b>",
            facts: vec![("scheme".to_string(), "w2g64 & more".to_string())],
            stages,
            kept: StageName::BlockAp,
            curves,
            layers,
        };
        report.html().unwrap()
    }

    /// Every tag is closed in its turn, and no attribute or text breaks out.
    fn check_well_formed(html: &str) {
        let mut open: Vec<&str> = Vec::new();
        let html = html.trim_start_matches("<!DOCTYPE html>");
        for piece in html.split('<').skip(1) {
            let (tag, _) = piece.split_once('>').expect("a tag ends");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{piece}");
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap());
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_page_shows_what_was_measured() {
        let mut e2e = stage(StageName::E2eQp, 99.125);
        e2e.comparison = Some(Comparison {
            before: 3.0,
            after: 4.5,
        });
        let stages = [
            stage(StageName::FullPrecision, 19.45),
            stage(StageName::Rtn, f64::INFINITY),
            stage(StageName::BlockAp, 21.653),
            e2e,
        ];
        let mut curves = Curves::default();
        curves.e2e.train = vec![(1.0, 3.0), (2.0, f64::NAN), (3.0, 4.0)];
        let layers = [LayerSize {
            path: "model.layers.0.q_proj.weight".to_string(),
            scheme: "w2g64".parse().unwrap(),
            weights: 16_384,
            bytes: 4_672,
        }];
        let html = report(&stages, &curves, &layers);
        check_well_formed(&html);
        assert!(html.contains("&lt;b&gt;tiny&lt;/b&gt;") && !html.contains("<b>"));
        for shown in [
            "w2g64 &amp; more",
            "21.653",
            "99.125",
            "4672",
            "q_proj",
            "from 3.0000 to 4.5000",
        ] {
            assert!(html.contains(shown), "{shown}: {html}");
        }
        for id in [
            "settings",
            "stages",
            "perplexity",
            "block-losses",
            "e2e-loss",
            "layers",
            "cost",
        ] {
            assert!(html.contains(&format!("<h2 id=\"{id}\">")), "{id}");
        }
        assert_eq!(html.matches("<svg").count(), 6);
        assert_eq!(html.matches("<desc>").count(), 6);
        assert!(html.contains("Block-AP did not run"));
        // Nothing is fetched.
        assert!(!html.contains("http") && !html.contains("src=") && !html.contains("url("));
    }

    #[test]
    fn a_page_of_nothing_is_a_page() {
        check_well_formed(&report(&[], &Curves::default(), &[]));
    }
}
