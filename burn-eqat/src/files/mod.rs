//! Checkpoint directories in the Hugging Face layout: `config.json`, one or many safetensors files,
//! `tokenizer.json`. Full-precision ones are read, packed ones are read and written.
//!
//! Files are not trusted: names, shapes and types are checked against the model before any data is used,
//! and errors name the file and the tensor.

mod checkpoint;
mod directory;
mod dynamic;
mod entry;
mod error;
mod export;
mod gptq;
mod json;
mod layout;
mod load;
mod metadata;
mod naming;
mod parameters;
mod quantization;
mod replaceable;
mod room;
mod save;
mod schemes;
mod shards;
mod side_files;
mod single;
mod staged;
mod staged_file;
mod stored;
mod sync;
mod tensor_file;
mod transpose;
mod view;

pub use checkpoint::Checkpoint;
pub use error::FileError;
pub use export::{export_dense, export_gptq};
pub use json::read_json;
pub use naming::Naming;
pub use room::check_room;
pub use save::{expected_size, save_model, save_model_by_block, saved_size, saved_size_by_block};
pub use schemes::PackedSchemes;
pub use side_files::copy_side_files;
pub use staged::StagedDir;
pub use staged_file::StagedFile;
pub use stored::Format;

pub(crate) use metadata::read_metadata;
pub(crate) use single::{PartFile, digest_part, load_module, load_part, save_module, save_part};
pub(crate) use sync::{sync_dir, sync_file};
pub(crate) use view::stored_scales;
