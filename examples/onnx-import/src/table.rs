//! The table that the program prints.

use burn_eqat::Scheme;
use std::fmt;

/// The header.
pub fn header() -> String {
    format!(
        "{:<12}{:<8}{:>12}{:>9}{:>16}{:>9}{:>10}{:>9}{:>9}",
        "model",
        "scheme",
        "bits/weight",
        "bytes",
        "full precision",
        "rtn",
        "block-ap",
        "e2e-qp",
        "seconds"
    )
}

/// A model at a scheme.
pub struct Row {
    /// The model.
    pub model: &'static str,
    /// The scheme.
    pub scheme: Scheme,
    /// Bits per quantized weight, with step sizes and zero points.
    pub bits_per_weight: f64,
    /// Size of the file.
    pub bytes: u64,
    /// Accuracy after each stage: full precision, round to nearest, Block-AP, E2E-QP.
    pub accuracy: Vec<f64>,
    /// The time of quantization.
    pub seconds: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, scheme) = (self.model, self.scheme.to_string());
        let (bits, bytes) = (self.bits_per_weight, self.bytes);
        write!(f, "{model:<12}{scheme:<8}{bits:>12.2}{bytes:>9}")?;
        for (accuracy, width) in self.accuracy.iter().zip([16, 9, 10, 9]) {
            let percent = format!("{:.1} %", 100.0 * accuracy);
            write!(f, "{percent:>width$}")?;
        }
        write!(f, "{:>9.1}", self.seconds)
    }
}
