use crate::error::Error;
use crate::quantize::MeasuredStage;
use burn_eqat::files::StagedFile;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// Writes a report as JSON, to a temporary file that is then renamed.
pub(super) fn write_report(path: &Path, report: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Error::input(path, error))?;
    let mut staged = StagedFile::begin(path)?;
    let written = writeln!(staged.file(), "{text}");
    written.map_err(Error::read(path))?;
    Ok(staged.commit()?)
}

/// Fails early if a report, or an HTML page, cannot be written later.
pub(super) fn check_report(path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => Err(Error::input(
            path,
            "the directory of the report does not exist",
        )),
        _ if path.is_dir() => Err(Error::input(path, "is a directory, expected a file")),
        _ => Ok(()),
    }
}

/// The head of the table of stages.
pub(super) fn table_head() -> String {
    let line = format!(
        "{:<16} {:>11} {:>11} {:>12} {:>9} {:>9} {:>9}",
        "stage", "perplexity", "bytes", "bits/weight", "seconds", "cpu s", "peak MB"
    );
    let rule = "-".repeat(line.len());
    format!("{line}\n{rule}")
}

/// A line of the table of stages.
pub(super) fn table_row(stage: &MeasuredStage) -> String {
    let or_dash = |value: Option<f64>| value.map_or("-".to_string(), |v| format!("{v:.1}"));
    let perplexity = if stage.perplexity < 1e5 {
        format!("{:.3}", stage.perplexity)
    } else {
        format!("{:.2e}", stage.perplexity)
    };
    format!(
        "{:<16} {:>11} {:>11} {:>12.3} {:>9.1} {:>9} {:>9}",
        stage.name,
        perplexity,
        stage.bytes,
        stage.bits_per_weight,
        stage.seconds,
        or_dash(stage.cpu_seconds),
        or_dash(stage.peak_rss_mb),
    )
}
