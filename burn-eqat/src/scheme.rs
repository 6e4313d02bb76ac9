use burn_eqat_kernels::{Bits, BitsError};
use core::fmt;
use core::num::NonZeroUsize;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// The number of weights that share a step size and a zero point.
///
/// ```
/// use burn_eqat::{Bits, GroupSize, Scheme};
///
/// let scheme = Scheme::new(Bits::Four, GroupSize::rows(128));
/// assert_eq!(scheme.to_string(), "w4g128");
/// let whole_columns = Scheme::new(Bits::Four, GroupSize::Column);
/// assert_eq!(whole_columns.to_string(), "w4g-1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupSize {
    /// This many neighbouring rows, along `d_input`.
    Rows(NonZeroUsize),
    /// A whole output column, written `g-1`.
    Column,
}

impl GroupSize {
    /// Groups of that many rows.
    ///
    /// # Panics
    ///
    /// When `rows` is 0. If the number comes from outside, use [`GroupSize::Rows`] with a [`NonZeroUsize`].
    pub const fn rows(rows: usize) -> Self {
        match NonZeroUsize::new(rows) {
            Some(rows) => GroupSize::Rows(rows),
            None => panic!("a group has at least one row"),
        }
    }

    /// The group size as a number: 0 for a whole column.
    pub(crate) fn number(self) -> usize {
        match self {
            GroupSize::Rows(rows) => rows.get(),
            GroupSize::Column => 0,
        }
    }

    /// The inverse of [`number`](Self::number).
    pub(crate) fn from_number(number: usize) -> Self {
        NonZeroUsize::new(number).map_or(GroupSize::Column, GroupSize::Rows)
    }
}

impl From<NonZeroUsize> for GroupSize {
    fn from(rows: NonZeroUsize) -> Self {
        GroupSize::Rows(rows)
    }
}

/// Bits per weight, group size and symmetry of a quantized weight.
///
/// Schemes are written in the usual form: `w2g64` is 2 bits in groups of 64, `w4g-1` is 4 bits with one
/// group per output column, and a trailing `-sym` makes a scheme symmetric (the zero point is
/// fixed at `2^(b-1)` and not trained).
///
/// ```
/// use burn_eqat::Scheme;
///
/// let scheme: Scheme = "w2g64".parse().unwrap();
/// assert_eq!(scheme.groups(192).unwrap(), 3);
/// assert_eq!(scheme.to_string(), "w2g64");
/// assert!("w5g64".parse::<Scheme>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scheme {
    /// Bits per weight.
    pub bits: Bits,
    /// Weights that share a step size.
    pub group: GroupSize,
    /// Whether the zero point is fixed at the middle of the code range.
    pub symmetric: bool,
}

/// A scheme cannot be parsed, or does not fit a weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// The text does not have the form `w<bits>g<group>`.
    #[error("unknown scheme {0:?}: expected something like w2g64, w3g128, w4g-1 or w4g64-sym")]
    Syntax(String),
    /// The bit width is not supported.
    #[error("unknown scheme {0:?}: {1}")]
    Bits(String, #[source] BitsError),
    /// The group size does not divide the rows of a weight.
    #[error("groups of {group} do not divide the {d_input} input rows")]
    Group {
        /// The group size.
        group: usize,
        /// Rows of the weight.
        d_input: usize,
    },
}

impl Scheme {
    /// An asymmetric scheme.
    pub fn new(bits: Bits, group: GroupSize) -> Self {
        Self {
            bits,
            group,
            symmetric: false,
        }
    }

    /// The same scheme with its zero point fixed at the middle of the code range.
    pub fn with_symmetric(self, symmetric: bool) -> Self {
        Self { symmetric, ..self }
    }

    /// The number of groups of a weight with `d_input` rows.
    ///
    /// # Errors
    ///
    /// When the group size does not divide `d_input`.
    pub fn groups(&self, d_input: usize) -> Result<usize, SchemeError> {
        match self.group {
            GroupSize::Column if d_input > 0 => Ok(1),
            GroupSize::Rows(group) if d_input > 0 && d_input.is_multiple_of(group.get()) => {
                Ok(d_input / group.get())
            }
            _ => Err(SchemeError::Group {
                group: self.rows_per_group(d_input),
                d_input,
            }),
        }
    }

    /// Rows that share a step size in a weight of `d_input` rows.
    pub fn rows_per_group(&self, d_input: usize) -> usize {
        match self.group {
            GroupSize::Rows(group) => group.get(),
            GroupSize::Column => d_input,
        }
    }

    /// The zero point of a symmetric scheme, `2^(b-1)`.
    pub fn middle_code(&self) -> u32 {
        1 << (self.bits.get() - 1)
    }

    /// The size on disk, in bits per weight of a `[d_input, d_output]` matrix: the codes, and a
    /// 16-bit step size and a zero point of `b` bits per group (the paper's `N + (N + 16) / g`), without
    /// the padding of the last word.
    pub fn bits_per_weight(&self, d_input: usize) -> f64 {
        let bits = self.bits.get() as f64;
        bits + (bits + 16.0) / self.rows_per_group(d_input) as f64
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}g", self.bits)?;
        match self.group {
            GroupSize::Rows(group) => write!(f, "{group}")?,
            GroupSize::Column => f.write_str("-1")?,
        }
        if self.symmetric {
            f.write_str("-sym")?;
        }
        Ok(())
    }
}

impl FromStr for Scheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, SchemeError> {
        let syntax = || SchemeError::Syntax(text.to_string());
        let (body, symmetric) = match text.strip_suffix("-sym") {
            Some(body) => (body, true),
            None => (text, false),
        };
        let (bits, group) = body
            .strip_prefix('w')
            .and_then(|rest| rest.split_once('g'))
            .ok_or_else(syntax)?;
        let bits: usize = bits.parse().map_err(|_| syntax())?;
        let bits = Bits::try_from(bits).map_err(|e| SchemeError::Bits(text.to_string(), e))?;
        let group = match group {
            "-1" => GroupSize::Column,
            _ => GroupSize::Rows(group.parse().map_err(|_| syntax())?),
        };
        Ok(Scheme {
            bits,
            group,
            symmetric,
        })
    }
}

impl TryFrom<String> for Scheme {
    type Error = SchemeError;

    fn try_from(text: String) -> Result<Self, SchemeError> {
        text.parse()
    }
}

impl From<Scheme> for String {
    fn from(scheme: Scheme) -> String {
        scheme.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_reads_and_writes() {
        for text in ["w2g64", "w3g128", "w4g-1", "w8g32-sym"] {
            let scheme: Scheme = text.parse().unwrap();
            assert_eq!(scheme.to_string(), text);
            let json = serde_json::to_string(&scheme).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Scheme>(&json).unwrap(), scheme);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |text: &str| text.parse::<Scheme>().unwrap_err().to_string();
        assert!(message("w5g64").contains("expected 2, 3, 4 or 8"));
        for text in ["", "2g64", "w2", "w2g", "w2g0", "w2g-2", "wxg64", "w2g64x"] {
            assert!(
                message(text).contains("expected something like w2g64"),
                "{text}"
            );
        }
        let scheme: Scheme = "w2g64".parse().unwrap();
        assert_eq!(
            scheme.groups(100).unwrap_err().to_string(),
            "groups of 64 do not divide the 100 input rows"
        );
        assert!("w2g-1".parse::<Scheme>().unwrap().groups(0).is_err());
    }

    #[test]
    fn costs_what_the_paper_says() {
        let scheme: Scheme = "w2g64".parse().unwrap();
        assert_eq!(scheme.bits_per_weight(192), 2.0 + 18.0 / 64.0);
    }

    proptest! {
        #[test]
        fn any_text_reads_or_is_refused(text in ".{0,12}") {
            if let Ok(scheme) = text.parse::<Scheme>() {
                prop_assert_eq!(scheme.to_string().parse::<Scheme>().unwrap(), scheme);
            }
        }
    }
}
