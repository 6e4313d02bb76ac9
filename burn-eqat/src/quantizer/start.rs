use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// Which step sizes and zero points training starts with.
///
/// ```
/// use burn_eqat::StartValues;
///
/// let start: StartValues = "searched".parse().unwrap();
/// assert_eq!(start, StartValues::Searched);
/// assert_eq!(start.to_string(), "searched");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartValues {
    /// Those that span the range of each group, as in the paper ([`min_max_start`](crate::min_max_start)).
    #[default]
    MinMax,
    /// Those that make the squared error of the weights small, each row as important as it is for what comes out of its block
    /// ([`searched_start`](crate::searched_start)).
    Searched,
}

impl StartValues {
    /// All of them.
    pub const ALL: [StartValues; 2] = [Self::MinMax, Self::Searched];

    /// The written name: `min-max` or `searched`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "min-max",
            Self::Searched => "searched",
        }
    }
}

impl fmt::Display for StartValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text is not the name of [`StartValues`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown start values {0:?}: expected min-max or searched")]
pub struct StartValuesError(String);

impl FromStr for StartValues {
    type Err = StartValuesError;

    fn from_str(text: &str) -> Result<Self, StartValuesError> {
        let start = Self::ALL.into_iter().find(|start| start.name() == text);
        start.ok_or_else(|| StartValuesError(text.to_string()))
    }
}
