//! The ops of a transformer besides the matmuls with packed weights. In training on a CPU, those between the matmuls take most of the
//! time that matmuls leave, and bf16 halves that of a matmul where the CPU has instructions for it ([`multiplies_bf16`]).
//!
//! The ops are made of Burn's own ops. On Flex, those compute exponentials one at a time, and each part of an op is a
//! pass over memory. So Flex has its own bodies here, in f32: a vector at a time, with one pass forward and one
//! backward. In half precision, norms, rotary positions and the softmax of attention compute in f32 and round once.

mod attention;
mod dense;
mod elementwise;
mod fused;
mod half;
mod norm;
mod rotary;
#[cfg(test)]
mod tests;
mod tiled;

pub use attention::causal_attention;
pub use dense::{cast, linear, matmul_wide, multiplies_bf16};
pub use elementwise::{exp, swiglu};
pub use norm::rms_norm;
pub use rotary::rotary;
