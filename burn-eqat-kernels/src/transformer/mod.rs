//! The ops between a transformer's matmuls. In training on a CPU, they take most of the time besides the matmuls.
//!
//! The ops are made of Burn's own ops. On Flex, those compute exponentials one at a time, and each part of an op is a
//! pass over memory. So Flex has its own bodies here, in f32: a vector at a time, with one pass forward and one
//! backward. In half precision, norms, rotary positions and the softmax of attention compute in f32 and round once.

mod attention;
mod elementwise;
mod fused;
mod half;
mod norm;
mod rotary;
#[cfg(test)]
mod tests;
mod tiled;

pub use attention::causal_attention;
pub use elementwise::{exp, swiglu};
pub use norm::rms_norm;
pub use rotary::rotary;
