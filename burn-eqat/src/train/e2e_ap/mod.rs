//! E2E-AP: all parameters of the blocks, end to end.

mod config;
mod offload;
mod phase;
mod trainee;

pub use config::E2eApConfig;
pub use phase::E2eAp;
