//! Layers that run from packed weights.

mod linear;
mod merged;

pub use linear::{Linear as QuantLinear, QuantLinearConfig};
pub use merged::MergedLinears;
