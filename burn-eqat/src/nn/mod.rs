//! Layers that run from packed weights.

mod linear;

pub use linear::{Linear as QuantLinear, QuantLinearConfig};
