//! Block-AP: each block in turn, all of its parameters (the paper's section 3.2).

mod config;
mod engine;
mod phase;
mod strategy;

pub use config::BlockApConfig;
pub use engine::{BlockApEvent, BlockSample, BlockTrainer};
pub use phase::BlockAp;
