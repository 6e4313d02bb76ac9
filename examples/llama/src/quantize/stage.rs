use burn_eqat::{Comparison, StageName};
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
    /// Validation losses before and after E2E-AP or E2E-QP; `None` at other stages and where there is no validation data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

impl MeasuredStage {
    /// Whether it is an end-to-end phase that made the model worse.
    pub fn is_worse(&self) -> bool {
        self.comparison.is_some_and(|losses| losses.is_worse())
    }

    /// What the phase did to the validation loss, and which stage's model is kept.
    pub(crate) fn verdict(&self, kept: StageName) -> String {
        let Some(Comparison { before, after }) = self.comparison else {
            return format!("kept is the model of {kept}");
        };
        let change = if self.is_worse() { "worse" } else { "no worse" };
        let phase = match self.name {
            StageName::E2eAp => "E2E-AP",
            _ => "E2E-QP",
        };
        format!(
            "{phase} made the model {change} (validation loss from {before:.4} to {after:.4}): kept is that of {kept}"
        )
    }
}
