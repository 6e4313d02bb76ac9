//! Layers that run from packed weights without making the dense ones.

mod linear;

pub use linear::{QuantLinear, QuantLinearConfig};
