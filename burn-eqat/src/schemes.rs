use crate::pattern::Pattern;
use crate::{QuantizeError, Scheme};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// The scheme of each weight: a default, and overrides for the weights whose paths match a pattern.
///
/// ```
/// use burn_eqat::Schemes;
///
/// let schemes = Schemes::new("w2g64".parse()?).with_override(r"down_proj", "w4g64".parse()?)?;
/// assert_eq!(schemes.of("layers.0.mlp.up_proj.weight").to_string(), "w2g64");
/// assert_eq!(schemes.of("layers.0.mlp.down_proj.weight").to_string(), "w4g64");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schemes {
    /// The scheme of every weight that no override matches.
    pub default: Scheme,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<SchemeOverride>,
}

impl Schemes {
    /// One scheme for all weights.
    pub fn new(default: Scheme) -> Self {
        Self {
            default,
            overrides: Vec::new(),
        }
    }

    /// Adds an override for the weights whose path matches a regular expression. If several overrides
    /// match, the last one wins.
    ///
    /// # Errors
    ///
    /// When the pattern is not a valid regular expression.
    pub fn with_override(self, pattern: &str, scheme: Scheme) -> Result<Self, QuantizeError> {
        let one = SchemeOverride::new(pattern, scheme)?;
        Ok(self.with_overrides([one]))
    }

    /// Adds an override for the weight at exactly this path.
    pub fn with_path(self, path: &str, scheme: Scheme) -> Self {
        let pattern = Pattern::exactly(path);
        self.with_overrides([SchemeOverride { pattern, scheme }])
    }

    /// Adds overrides after the existing ones.
    pub fn with_overrides(mut self, overrides: impl IntoIterator<Item = SchemeOverride>) -> Self {
        self.overrides.extend(overrides);
        self
    }

    /// The overrides, in the order in which they were added; if several match, the last one wins.
    pub fn overrides(&self) -> &[SchemeOverride] {
        &self.overrides
    }

    /// The scheme of the weight at a path.
    pub fn of(&self, path: &str) -> Scheme {
        let last = self.overrides.iter().rfind(|one| one.matches(path));
        last.map_or(self.default, |one| one.scheme)
    }

    /// The first override that matches none of these paths.
    pub(crate) fn unused<'a>(&self, paths: impl Iterator<Item = &'a str> + Clone) -> Option<&str> {
        let used = |one: &SchemeOverride| paths.clone().any(|path| one.matches(path));
        let unused = self.overrides.iter().find(|one| !used(one))?;
        Some(unused.pattern())
    }
}

impl From<Scheme> for Schemes {
    fn from(scheme: Scheme) -> Self {
        Self::new(scheme)
    }
}

impl From<&Schemes> for Schemes {
    fn from(schemes: &Schemes) -> Self {
        schemes.clone()
    }
}

impl fmt::Display for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        for one in &self.overrides {
            write!(f, ", {one}")?;
        }
        Ok(())
    }
}

/// A scheme for some of the weights, written `REGEX=SCHEME`: `down_proj=w4g64` is 4 bits in groups of 64
/// for every weight whose path contains `down_proj`.
///
/// ```
/// use burn_eqat::SchemeOverride;
///
/// let one: SchemeOverride = r"^layers\.0\.=w4g-1".parse().unwrap();
/// assert_eq!(one.pattern(), r"^layers\.0\.");
/// assert_eq!(one.scheme().to_string(), "w4g-1");
/// assert!("down_proj".parse::<SchemeOverride>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SchemeOverride {
    pattern: Pattern,
    scheme: Scheme,
}

impl SchemeOverride {
    /// An override for the weights whose path matches a regular expression.
    ///
    /// # Errors
    ///
    /// When the pattern is not a valid regular expression.
    pub fn new(pattern: &str, scheme: Scheme) -> Result<Self, QuantizeError> {
        let pattern = Pattern::new(pattern)?;
        Ok(Self { pattern, scheme })
    }

    /// The regular expression.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether the pattern matches a path.
    pub fn matches(&self, path: &str) -> bool {
        self.pattern.matches(path)
    }
}

impl fmt::Display for SchemeOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern(), self.scheme)
    }
}

impl FromStr for SchemeOverride {
    type Err = QuantizeError;

    fn from_str(text: &str) -> Result<Self, QuantizeError> {
        let wrong = |message: String| QuantizeError::Override {
            text: text.to_string(),
            message,
        };
        // A pattern may contain `=`, a scheme does not.
        let (pattern, scheme) = text
            .rsplit_once('=')
            .filter(|(pattern, _)| !pattern.is_empty())
            .ok_or_else(|| wrong("expected REGEX=SCHEME, as in down_proj=w4g64".to_string()))?;
        let scheme = scheme.parse().map_err(|error| wrong(format!("{error}")))?;
        Self::new(pattern, scheme)
    }
}

impl TryFrom<String> for SchemeOverride {
    type Error = QuantizeError;

    fn try_from(text: String) -> Result<Self, QuantizeError> {
        text.parse()
    }
}

impl From<SchemeOverride> for String {
    fn from(one: SchemeOverride) -> String {
        one.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> Scheme {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_match_wins() {
        let schemes = Schemes::new(scheme("w2g64"))
            .with_override("down", scheme("w4g64"))
            .unwrap()
            .with_override(r"^layers\.0\.", scheme("w3g32"))
            .unwrap()
            .with_path("layers.1.up.weight", scheme("w8g-1"));
        for (path, expected) in [
            ("layers.1.down.weight", "w4g64"),
            ("layers.0.down.weight", "w3g32"),
            ("layers.1.up.weight", "w8g-1"),
            ("layers.11.up.weight", "w2g64"),
        ] {
            assert_eq!(schemes.of(path).to_string(), expected, "{path}");
        }
    }

    #[test]
    fn schemes_are_written_and_read() {
        let schemes = Schemes::new(scheme("w2g64"))
            .with_overrides([r"a=b|down$=w4g64".parse().unwrap()])
            .with_path("head.weight", scheme("w8g-1-sym"));
        let json = serde_json::to_string(&schemes).unwrap();
        assert_eq!(
            json,
            r#"{"default":"w2g64","overrides":["a=b|down$=w4g64","^head\\.weight$=w8g-1-sym"]}"#
        );
        assert_eq!(serde_json::from_str::<Schemes>(&json).unwrap(), schemes);
        let plain = Schemes::from(scheme("w3g32"));
        let json = serde_json::to_string(&plain).unwrap();
        assert_eq!(json, r#"{"default":"w3g32"}"#);
        assert_eq!(serde_json::from_str::<Schemes>(&json).unwrap(), plain);
    }

    #[test]
    fn a_wrong_override_says_what_was_expected() {
        let message = |text: &str| text.parse::<SchemeOverride>().unwrap_err().to_string();
        assert_eq!(
            message("down_proj"),
            r#"override "down_proj": expected REGEX=SCHEME, as in down_proj=w4g64"#
        );
        assert!(message("=w4g64").contains("expected REGEX=SCHEME"));
        assert!(message("down=w5g64").contains("expected 2, 3, 4 or 8"));
        assert!(message("down(=w4g64").contains("unclosed group"));
    }

    #[test]
    fn an_override_that_matches_nothing_is_found() {
        let schemes = Schemes::new(scheme("w2g64"))
            .with_override("up", scheme("w4g64"))
            .unwrap()
            .with_override("dwon", scheme("w4g64"))
            .unwrap();
        let paths = ["layers.0.up.weight", "layers.0.down.weight"];
        assert_eq!(schemes.unused(paths.into_iter()), Some("dwon"));
        assert_eq!(
            schemes.unused(["up.weight", "dwon.weight"].into_iter()),
            None
        );
    }
}
