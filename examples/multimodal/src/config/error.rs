/// A file does not describe a model, or a preparation of its inputs, that is supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, expected {expected}")]
pub struct ConfigError {
    /// The field, with the fields around it.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What is supported.
    pub expected: String,
}

impl ConfigError {
    /// A field of another value than was expected.
    pub(crate) fn new(field: &str, value: impl ToString, expected: impl ToString) -> Self {
        Self {
            field: field.to_string(),
            value: value.to_string(),
            expected: expected.to_string(),
        }
    }

    /// Fails unless a number is from 1 to a limit, so that a hostile file cannot ask for absurd sizes.
    pub(crate) fn check_size(field: &str, value: usize, limit: usize) -> Result<(), Self> {
        if value == 0 || value > limit {
            return Err(Self::new(field, value, format!("1 to {limit}")));
        }
        Ok(())
    }

    /// Fails unless heads share a width evenly.
    pub(super) fn check_heads(field: &str, heads: usize, width: usize) -> Result<(), Self> {
        Self::check_size(field, heads, width)?;
        if !width.is_multiple_of(heads) {
            let expected = format!("a divisor of the width {width}");
            return Err(Self::new(field, heads, expected));
        }
        Ok(())
    }
}
