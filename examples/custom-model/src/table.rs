//! The table that the program prints.

use burn_eqat::Scheme;
use std::fmt;

/// The header.
pub fn header() -> String {
    format!(
        "{:<8}{:>12}{:>9}{:>16}{:>9}{:>10}{:>9}{:>9}",
        "scheme", "bits/weight", "bytes", "full precision", "rtn", "block-ap", "e2e-qp", "seconds"
    )
}

/// A model at a scheme.
pub struct Row {
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
        let scheme = self.scheme.to_string();
        write!(
            f,
            "{scheme:<8}{:>12.2}{:>9}",
            self.bits_per_weight, self.bytes
        )?;
        for (accuracy, width) in self.accuracy.iter().zip([16, 9, 10, 9]) {
            let percent = format!("{:.1} %", 100.0 * accuracy);
            write!(f, "{percent:>width$}")?;
        }
        write!(f, "{:>9.1}", self.seconds)
    }
}
