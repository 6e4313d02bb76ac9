//! A backward pass that goes from block to block and keeps the activations of one.

mod backward;
mod flow_grads;

pub use backward::backward_by_blocks;
pub(super) use backward::{Blocks, go_back};
pub(super) use flow_grads::without_gradients;
