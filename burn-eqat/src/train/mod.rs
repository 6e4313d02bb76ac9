//! The two training phases.

mod clip;

pub use clip::clip_grad_norm;
