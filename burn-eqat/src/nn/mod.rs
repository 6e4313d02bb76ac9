//! Layers that run from packed weights.

mod linear;
mod merged;
mod of_norm;

pub use linear::{Linear as QuantLinear, QuantLinearConfig};
pub use merged::MergedLinears;
pub use of_norm::linears_of_norm;
