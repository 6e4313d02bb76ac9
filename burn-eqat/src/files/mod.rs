//! Checkpoint directories in the Hugging Face layout: `config.json`, one or many safetensors files,
//! `tokenizer.json`; full-precision ones read, packed ones read and written.
//!
//! A file is read as if an enemy wrote it: names, shapes and types are checked against the model
//! before any data is used, and what is wrong is said with the file and the tensor.

mod checkpoint;
mod error;
mod export;
mod layout;
mod save;
mod shards;
mod staged;
mod stored;
mod view;

pub use checkpoint::{Checkpoint, read_json};
pub use error::FileError;
pub use export::{export_dense, export_gptq};
pub use save::{copy_side_files, save_model, saved_size};
pub use staged::StagedDir;
pub use stored::Format;
