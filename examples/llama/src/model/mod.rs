//! A Llama in Burn: grouped-query attention, rotary positions, RMSNorm, SwiGLU.
//!
//! Fields have the names of the tensors in a Hugging Face checkpoint, so that files need no table of names. The
//! decoder's linear layers are [`QuantLinear`](burn_eqat::QuantLinear)s.

mod attention;
mod block;
mod error;
mod llama;
mod lm;
mod merged;
mod mlp;
mod rope;
mod train;

pub use attention::Attention;
pub use block::DecoderBlock;
pub use error::LlamaError;
pub use llama::{Decoder, Llama};
pub use mlp::Mlp;
pub use rope::Rope;
