//! What a transformer does between its matmuls, where training one on a CPU spends the time that those leave.
//!
//! The ops are Burn's own, put together. Flex computes exponentials one at a time and goes over memory for each part of an
//! op, so it has bodies of its own here, in f32: a vector at a time, in one pass forward and one back.

mod attention;
mod elementwise;
mod fused;
mod norm;
mod rotary;
#[cfg(test)]
mod tests;
mod tiled;

pub use attention::causal_attention;
pub use elementwise::{exp, swiglu};
pub use norm::rms_norm;
pub use rotary::rotary;
