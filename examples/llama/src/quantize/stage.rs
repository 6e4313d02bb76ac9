use burn_eqat::StageName;
use serde::{Deserialize, Serialize};

/// The measurements of a model at a stage of the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeasuredStage {
    /// The stage.
    pub name: StageName,
    /// Perplexity on the evaluation windows.
    pub perplexity: f64,
    /// Size of the model's tensors on disk.
    pub bytes: usize,
    /// Bits per quantized weight, including step sizes and zero points as files have them.
    pub bits_per_weight: f64,
    /// The time of the stage, without measuring.
    pub seconds: f64,
    /// User and system time of the process in the stage.
    pub cpu_seconds: Option<f64>,
    /// The peak memory of the process so far.
    pub peak_rss_mb: Option<f64>,
}
