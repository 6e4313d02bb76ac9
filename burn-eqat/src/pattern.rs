use crate::QuantizeError;
use burn::module::{ParamGroup, ParamGroupError, ParamId};
use core::fmt;
use serde::{Deserialize, Serialize};

/// A regular expression over the paths of parameters. It may match anywhere in a path.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Pattern {
    text: String,
    paths: ParamGroup,
}

impl Pattern {
    /// Compiles a regular expression.
    pub fn new(text: &str) -> Result<Self, QuantizeError> {
        let paths = ParamGroup::from_regex(text).map_err(|error| {
            let ParamGroupError::InvalidPatternError(message) = error;
            let message = message.trim_start_matches("Invalid regex pattern: ");
            QuantizeError::Pattern {
                pattern: text.to_string(),
                message: message.to_string(),
            }
        })?;
        let text = text.to_string();
        Ok(Self { text, paths })
    }

    /// A pattern that matches this path and no other.
    pub fn exactly(path: &str) -> Self {
        let mut text = String::from("^");
        for character in path.chars() {
            if !character.is_alphanumeric() && character != '_' {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('$');
        let paths = ParamGroup::from_path(path);
        Self { text, paths }
    }

    /// The regular expression as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches a path.
    pub fn matches(&self, path: &str) -> bool {
        // A group of paths does not use the id.
        self.paths.matches(&ParamId::from(0), Some(path))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl TryFrom<String> for Pattern {
    type Error = QuantizeError;

    fn try_from(text: String) -> Result<Self, QuantizeError> {
        Self::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_pattern_means_the_same_as_its_text() {
        let path = "encoder.layers.1.key-value.weight";
        let exact = Pattern::exactly(path);
        let read = Pattern::new(exact.as_str()).unwrap();
        assert_eq!(exact, read);
        for (other, expected) in [
            (path, true),
            ("encoder.layers.11.key-value.weight", false),
            ("encoder.layersx1.key-value.weight", false),
            ("encoder.layers.1.key-value.weight.packed", false),
        ] {
            assert_eq!(exact.matches(other), expected, "{other}");
            assert_eq!(read.matches(other), expected, "{other}");
        }
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let error = Pattern::new("layers.(1").unwrap_err().to_string();
        assert!(error.starts_with(r#"pattern "layers.(1": "#), "{error}");
        assert!(error.contains("unclosed group"), "{error}");
    }
}
