//! Takes a Llama to 2 bits by training: the model, and the parts of the command line.
#![warn(missing_docs)]

mod bpe;
pub mod chat;
pub mod choices;
mod cli;
mod config;
mod error;
mod export;
pub mod generate;
#[cfg(feature = "hub")]
pub mod hub;
mod load;
pub mod model;
pub mod plan;
pub mod pretrain;
pub mod protocol;
mod quantize;
mod report;
mod rescue;
pub mod tune;

pub use cli::Cli;
pub use config::{ConfigError, Family, LlamaConfig, RopeParameters, TokenIds};
pub use error::Error;
pub use export::{Compatibility, GgufError};
pub use load::{LoadedLlama, Tables, float_type};
pub use quantize::{
    BlockApSettings, E2eApSettings, E2eQpSettings, Hooks, MeasuredStage, QuantizeSettings,
    Quantized, Rates, quantize,
};
