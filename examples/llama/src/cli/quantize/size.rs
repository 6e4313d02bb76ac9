use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A number of bytes as people write it: `8GB`, `1.5 GiB`, `512mb`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Size(pub(super) u64);

/// A text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no size: expected a number of bytes, or of KB, MB, GB, TB, KiB, MiB, GiB or TiB, as in 8GB"
)]
pub(in crate::cli) struct SizeError(String);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let wrong = || SizeError(text.to_string());
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let unit: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "kib" => f64::from(1 << 10),
            "mib" => f64::from(1 << 20),
            "gib" => f64::from(1 << 30),
            "tib" => f64::from(1 << 20) * f64::from(1 << 20),
            _ => return Err(wrong()),
        };
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * unit;
        // What is more than this is a slip of the keyboard.
        let limit = f64::from(1 << 30) * f64::from(1 << 30);
        if bytes > limit {
            return Err(wrong());
        }
        Ok(Size(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("12b", 12),
            ("512MB", 512_000_000),
            ("1.5 GiB", 3 << 29),
            ("8gb", 8_000_000_000),
            ("2KiB", 2048),
            ("1TiB", 1 << 40),
            (".5kb", 500),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "GB",
            "-1",
            "1.2.3",
            "8 gigs",
            "1e3",
            "nan",
            "inf",
            "99999999TB",
        ] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{text:?} is no size")),
                "{error}"
            );
        }
    }
}
