//! E2E-QP: the whole model, step sizes only (the paper's section 3.3).

mod config;
mod fit;
mod offload;
mod on_devices;
mod phase;
mod recompute;
mod state;
mod strategy;
mod trainee;
mod worker;

pub use config::E2eQpConfig;
pub use phase::E2eQp;

pub(in crate::train) use fit::{BatchStep, Fit, OneByOne, Schedule, Steps, end_to_end, most_bits};
pub(in crate::train) use phase::Callback;
pub(in crate::train) use recompute::by_blocks;
pub(in crate::train) use state::Position;
pub(in crate::train) use trainee::{Resumed, Trainee};
