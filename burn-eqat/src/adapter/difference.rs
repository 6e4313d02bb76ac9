use crate::Scheme;
use core::fmt;

/// In what a model is not the base of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseDifference {
    /// The path of the first weight that differs.
    pub path: String,
    /// In what.
    pub difference: Difference,
    /// How many other weights differ.
    pub others: usize,
}

/// In what a packed weight of a model is not the one that an adapter was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The adapter has step sizes for it, and the model has no such packed weight.
    Missing,
    /// It is packed in the model, and the adapter has no step sizes for it.
    Unexpected,
    /// The shape `[d_input, d_output]`.
    Shape {
        /// That of the adapter's base.
        adapter: [usize; 2],
        /// That of the model.
        model: [usize; 2],
    },
    /// Bits, group size or symmetry.
    Scheme {
        /// That of the adapter's base.
        adapter: Scheme,
        /// That of the model.
        model: Scheme,
    },
    /// The codes.
    Codes {
        /// The checksum of the adapter's base.
        adapter: u32,
        /// That of the model.
        model: u32,
    },
    /// The zero points.
    ZeroPoints {
        /// The checksum of the adapter's base.
        adapter: u32,
        /// That of the model.
        model: u32,
    },
}

impl fmt::Display for BaseDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.difference)?;
        match self.others {
            0 => Ok(()),
            others => write!(f, "; {others} more of its weights differ"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing => f.write_str("is not packed in the model"),
            Difference::Unexpected => {
                f.write_str("is packed in the model, and the adapter has no step sizes for it")
            }
            Difference::Shape { adapter, model } => {
                write!(f, "has shape {model:?}, expected {adapter:?}")
            }
            Difference::Scheme { adapter, model } => {
                write!(f, "is packed in {model}, expected {adapter}")
            }
            Difference::Codes { adapter, model } => {
                write!(
                    f,
                    "has codes with checksum {model:08x}, expected {adapter:08x}"
                )
            }
            Difference::ZeroPoints { adapter, model } => write!(
                f,
                "has zero points with checksum {model:08x}, expected {adapter:08x}"
            ),
        }
    }
}
