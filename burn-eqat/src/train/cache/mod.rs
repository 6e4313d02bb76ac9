//! What Block-AP keeps of its data between blocks: in memory up to a budget, on disk beyond it.
//!
//! A split (training or validation data) has two caches: what the quantized blocks made, and what the original ones made.
//! On disk each is a file of records of one size, one for a batch, which are overwritten in place as data goes through a
//! block. A thread reads ahead and decodes, so that training does not wait for the disk.
//!
//! The files are read and written at positions, not mapped into memory: a mapped file that somebody cuts short ends the process
//! with a signal, and here that has to be an error. The reading thread makes up for it.

mod config;
mod directory;
mod disk;
mod parts;
mod read_ahead;
mod record;
mod record_file;
mod rows;
mod samples;
mod shards;
mod states;
mod storage;

pub use config::{CacheConfig, CacheDType, CacheDTypeError};
pub use parts::{FlowError, FlowParts};
pub(super) use rows::{RowCache, row_keys};
use samples::SampleCache;
pub(super) use shards::Shards;
pub(crate) use states::StateCache;
pub(super) use storage::Storage;
