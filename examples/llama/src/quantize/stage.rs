use burn_eqat::StageName;
use serde::{Deserialize, Serialize};

/// What was measured of a model at a stage of the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeasuredStage {
    /// The stage.
    pub name: StageName,
    /// Perplexity on the evaluation windows.
    pub perplexity: f64,
    /// Size of the model's tensors on disk.
    pub bytes: usize,
    /// Bits of a quantized weight, step sizes and zero points counted as files have them.
    pub bits_per_weight: f64,
    /// What the stage itself took, without the measuring.
    pub seconds: f64,
    /// User and system time of the process in the stage.
    pub cpu_seconds: Option<f64>,
    /// The most memory that the process has had so far.
    pub peak_rss_mb: Option<f64>,
}
