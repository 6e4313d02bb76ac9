//! What both towers are made of.

mod activation;
mod attention;

pub use activation::Activation;
pub use attention::{Attention, AttentionConfig};
