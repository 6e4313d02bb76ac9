//! A decoder that sees or hears, taken to 4, 3 and 2 bits per weight by training: LLaVA, and the same Llama behind an audio
//! encoder.
#![deny(missing_docs)]

pub mod audio;
mod cli;
pub mod config;
pub mod conversation;
pub mod data;
pub mod encoder;
mod error;
pub mod evaluate;
pub mod front;
pub mod instructions;
pub mod learn;
pub mod little;
mod load;
pub mod model;
mod naming;
pub mod processor;
mod projector;
pub mod quantize;
pub mod table;
pub mod vision;

pub use cli::Cli;
pub use error::Error;
pub use load::{LoadedMultimodal, read_config};
pub use projector::{Projector, ProjectorConfig};
