//! The main job: full precision, round to nearest, Block-AP, E2E-QP, measured after each.

mod settings;
mod stages;
mod usage;

pub use settings::{Method, QuantizeSettings, Rates};
pub use stages::{Hooks, Stage, quantize};
