//! E2E-QP of a model whose blocks are in files: one block's packed weights are in memory at a time, and step sizes with their
//! moments wait on the host.

mod piece;
mod start;
mod trainee;

pub(super) use start::Start;
pub(super) use trainee::Offloaded;
