//! E2E-AP of a model whose blocks are in files. A block's weights, gradients and moments are in memory while it is replayed and
//! takes its step; before and after they are in a file of the run directory.

mod block_file;
mod blocks;
mod finish;
mod skeleton;
mod start;
mod trainee;

pub(super) use finish::{finish, finished, is_over};
pub(super) use start::start;
