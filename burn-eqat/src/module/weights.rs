use super::matrices::{Matrix, is_under, some_paths};
use crate::QuantizeError;
use crate::pattern::Pattern;
use burn::module::ParamGroup;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The selection of a module's weights to quantize. Only matrices are quantized, never norms and biases.
///
/// A path names a parameter by the fields that lead to it, as in `layers.0.up.weight`.
///
/// ```
/// use burn_eqat::Weights;
///
/// let all_but_the_head = Weights::linears().except(r"^head\.")?;
/// let feed_forward = Weights::matching(r"\.(up|down)\.weight$")?;
/// # Ok::<(), burn_eqat::QuantizeError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weights {
    choice: Choice,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except: Vec<Pattern>,
}

/// The selection before exceptions.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Choice {
    Linears,
    Matrices,
    Under(Vec<String>),
    Matching(Pattern),
    Group(ParamGroup),
}

/// The name of a linear layer in Burn's visitors, also for [`QuantLinear`](crate::QuantLinear).
pub(crate) const LINEAR: &str = "Struct:Linear";

impl Weights {
    /// The weight of every [`Linear`](burn::nn::Linear) and [`QuantLinear`](crate::QuantLinear).
    pub fn linears() -> Self {
        Choice::Linears.into()
    }

    /// Every parameter with two axes, including embeddings.
    pub fn matrices() -> Self {
        Choice::Matrices.into()
    }

    /// Every matrix in the modules at these paths, such as `layers.0`.
    pub fn under<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Choice::Under(paths.into_iter().map(Into::into).collect()).into()
    }

    /// Every matrix whose path matches a regular expression.
    ///
    /// # Errors
    ///
    /// When the pattern is not a valid regular expression.
    pub fn matching(pattern: &str) -> Result<Self, QuantizeError> {
        Ok(Choice::Matching(Pattern::new(pattern)?).into())
    }

    /// The same weights without those whose path matches a regular expression. May be repeated.
    ///
    /// # Errors
    ///
    /// When the pattern is not a valid regular expression.
    pub fn except(mut self, pattern: &str) -> Result<Self, QuantizeError> {
        self.except.push(Pattern::new(pattern)?);
        Ok(self)
    }

    /// Whether a matrix is selected.
    pub(super) fn select(&self, matrix: &Matrix) -> bool {
        let path = matrix.path.as_str();
        let chosen = match &self.choice {
            Choice::Linears => matrix.owner == LINEAR && matrix.field() == "weight",
            Choice::Matrices => true,
            Choice::Under(modules) => modules.iter().any(|module| is_under(path, module)),
            Choice::Matching(pattern) => pattern.matches(path),
            Choice::Group(group) => group.matches(&matrix.id, Some(path)),
        };
        chosen && !self.except.iter().any(|pattern| pattern.matches(path))
    }
}

impl From<Choice> for Weights {
    fn from(choice: Choice) -> Self {
        Self {
            choice,
            except: Vec::new(),
        }
    }
}

/// The matrices of a parameter group.
impl From<ParamGroup> for Weights {
    fn from(group: ParamGroup) -> Self {
        Choice::Group(group).into()
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice {
            Choice::Linears => f.write_str("weights of linear layers")?,
            Choice::Matrices => f.write_str("matrices")?,
            Choice::Under(modules) => write!(f, "matrices in {}", some_paths(modules))?,
            Choice::Matching(pattern) => write!(f, "matrices whose path matches {pattern:?}")?,
            Choice::Group(_) => f.write_str("matrices of the parameter group")?,
        }
        for (i, pattern) in self.except.iter().enumerate() {
            let word = if i == 0 {
                "except those that match"
            } else {
                "or"
            };
            write!(f, " {word} {pattern:?}")?;
        }
        Ok(())
    }
}
