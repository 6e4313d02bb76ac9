//! The main job: the recipe of burn-eqat on a Llama, measured after each stage.

mod job;
mod settings;
mod share;
mod stage;
mod usage;

pub use job::{Hooks, Quantized, quantize};
pub use settings::{BlockApSettings, E2eApSettings, E2eQpSettings, QuantizeSettings, Rates};
pub use stage::MeasuredStage;
pub(crate) use usage::{Meter, peak_rss_mb};
