use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A learning rate of weights and of what quantizes them.
///
/// AdamW moves a parameter by about its learning rate in a step, whatever the size of the gradient. What that does to a quantized weight
/// depends on its step size, which differs from model to model by a factor of ten: so a rate may be given in step sizes.
///
/// ```
/// use burn_eqat::train::Rate;
///
/// assert_eq!("2e-4".parse(), Ok(Rate::Absolute(2e-4)));
/// assert_eq!("0.02s".parse(), Ok(Rate::InSteps(0.02)));
/// assert_eq!(Rate::InSteps(0.02).to_string(), "0.02s");
/// assert_eq!(Rate::from(2e-4), Rate::Absolute(2e-4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// The same for all parameters.
    Absolute(f64),
    /// A multiple of the mean step size of each weight at the start of the phase, for the weight and its step sizes. Written with an
    /// `s`, as in `0.02s`.
    ///
    /// What is not measured in step sizes gets a tenth of it, divided by the number of steps from the first code to the last: zero points
    /// that many codes, and what else trains in a block (norms) that part of its own root mean square. So they move as far
    /// in proportion to what the weights are as a whole.
    InSteps(f64),
}

impl Rate {
    /// The number, whatever its unit.
    pub fn number(self) -> f64 {
        match self {
            Self::Absolute(number) | Self::InSteps(number) => number,
        }
    }

    /// A part of the rate.
    pub fn times(self, part: f64) -> Self {
        match self {
            Self::Absolute(number) => Self::Absolute(number * part),
            Self::InSteps(number) => Self::InSteps(number * part),
        }
    }

    /// The absolute rate of what has this size: an absolute rate stays as it is.
    pub(super) fn of(self, size: f64) -> f64 {
        match self {
            Self::Absolute(number) => number,
            Self::InSteps(number) => number * size,
        }
    }
}

/// An absolute rate.
impl From<f64> for Rate {
    fn from(number: f64) -> Self {
        Self::Absolute(number)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, f.precision()) {
            (Self::Absolute(number), Some(digits)) => write!(f, "{number:.digits$e}"),
            (Self::Absolute(number), None) => write!(f, "{number:e}"),
            (Self::InSteps(number), Some(digits)) if (1e-6..1e6).contains(number) => {
                // As many digits, and no exponent.
                let rounded: f64 = format!("{number:.digits$e}").parse().unwrap_or(*number);
                write!(f, "{rounded}s")
            }
            (Self::InSteps(number), Some(digits)) => write!(f, "{number:.digits$e}s"),
            (Self::InSteps(number), None) => write!(f, "{number}s"),
        }
    }
}

/// A text is not a [`Rate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid learning rate {0:?}: expected a number, such as 2e-4, or a number of step sizes, such as 0.02s"
)]
pub struct RateError(String);

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (number, rate): (_, fn(f64) -> Self) = match text.strip_suffix('s') {
            Some(number) => (number, Self::InSteps),
            None => (text, Self::Absolute),
        };
        let number = number.parse().map_err(|_| RateError(text.to_string()))?;
        Ok(rate(number))
    }
}

/// A number, or a text such as `"0.02s"`.
impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absolute(number) => serializer.serialize_f64(*number),
            Self::InSteps(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Number(f64),
            Text(String),
        }
        match Stored::deserialize(deserializer)? {
            Stored::Number(number) => Ok(Self::Absolute(number)),
            Stored::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_json_come_back() {
        for rate in [
            Rate::Absolute(1.5e-5),
            Rate::InSteps(0.012),
            Rate::InSteps(1e-9),
            Rate::Absolute(0.0),
        ] {
            assert_eq!(rate.to_string().parse(), Ok(rate));
            let json = serde_json::to_string(&rate).unwrap();
            assert_eq!(serde_json::from_str::<Rate>(&json).unwrap(), rate, "{json}");
        }
        for text in ["", "s", "fast", "0.1ss", "1e"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
            let json = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<Rate>(&json).is_err(), "{text}");
        }
    }

    #[test]
    fn digits_are_as_asked() {
        let text = |rate: Rate| format!("{rate:.1} {rate:.3}");
        assert_eq!(text(Rate::InSteps(0.0206610173)), "0.021s 0.02066s");
        assert_eq!(text(Rate::Absolute(2.06610173e-4)), "2.1e-4 2.066e-4");
        assert_eq!(text(Rate::InSteps(7.5e31)), "7.5e31s 7.500e31s");
    }

    #[test]
    fn a_part_and_a_size_scale_what_is_in_steps() {
        assert_eq!(Rate::Absolute(4.0).times(0.5).of(3.0), 2.0);
        assert_eq!(Rate::InSteps(4.0).times(0.5).of(3.0), 6.0);
    }
}
