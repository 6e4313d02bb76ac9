//! A Llama to 2 bits by training: the model and what the command line is made of.
#![warn(missing_docs)]

mod cli;
mod config;
mod error;
pub mod model;
pub mod pretrain;
pub mod text;

pub use cli::Cli;
pub use config::{ConfigError, LlamaConfig, TokenIds};
pub use error::Error;
