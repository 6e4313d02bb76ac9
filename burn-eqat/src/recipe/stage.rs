use super::Comparison;
use crate::SizeReport;
use crate::train::LearningRates;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A model after a part of the recipe.
///
/// ```
/// use burn_eqat::{Comparison, Stage, StageName};
///
/// fn report<M>(stage: &Stage<'_, M>) -> String {
///     let bits = stage.size_report.bits_per_weight();
///     let kept = if stage.kept() { "" } else { ", dropped" };
///     format!("{}: {bits:.2} bits per weight{kept}", stage.name)
/// }
///
/// let stage = Stage {
///     name: StageName::E2eQp,
///     model: &(),
///     size_report: Default::default(),
///     seconds: 1.5,
///     rates: None,
///     comparison: Some(Comparison { before: 2.0, after: 2.1 }),
/// };
/// assert_eq!(report(&stage), "e2e-qp: 0.00 bits per weight, dropped");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a, M> {
    /// Which part.
    pub name: StageName,
    /// The model: clone it to keep it.
    pub model: &'a M,
    /// Its size. Blocks of the original that are still in files are not counted.
    pub size_report: SizeReport,
    /// The time of this part, without the observer's time.
    pub seconds: f64,
    /// The initial learning rates of a phase, as configured, chosen by the size of the model or found by a probe; `None` if nothing was
    /// trained.
    pub rates: Option<LearningRates>,
    /// Validation losses before and after E2E-AP or E2E-QP; `None` at other stages, and where there is no validation data.
    pub comparison: Option<Comparison>,
}

impl<M> Stage<'_, M> {
    /// False after an E2E-AP or E2E-QP that made the model worse: the recipe returns the model before it.
    pub fn kept(&self) -> bool {
        !self.comparison.is_some_and(|losses| losses.is_worse())
    }
}

/// The parts of the recipe. They are written `full-precision`, `packed`, `rtn`, `block-ap`, `e2e-ap` and `e2e-qp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageName {
    /// The original model, in full precision.
    FullPrecision,
    /// The original model, if it was packed already.
    Packed,
    /// Rounded to nearest, for comparison.
    Rtn,
    /// After Block-AP.
    BlockAp,
    /// After E2E-AP.
    E2eAp,
    /// After E2E-QP.
    E2eQp,
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StageName::FullPrecision => "full-precision",
            StageName::Packed => "packed",
            StageName::Rtn => "rtn",
            StageName::BlockAp => "block-ap",
            StageName::E2eAp => "e2e-ap",
            StageName::E2eQp => "e2e-qp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_the_same_everywhere() {
        use StageName::*;
        for name in [FullPrecision, Packed, Rtn, BlockAp, E2eQp] {
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("\"{name}\""));
        }
        assert_eq!(format!("{Rtn:<5}|"), "rtn  |");
    }
}
