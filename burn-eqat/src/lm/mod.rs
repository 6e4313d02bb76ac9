//! What every language model needs around it, to be quantized and measured.
//!
//! - Text: [`read_documents`], [`load_tokenizer`], [`encode_windows`] make [`TokenWindows`]; [`Calibration`]
//!   splits them, and [`TokenWindows::loader`] feeds Burn's training.
//! - Loss: [`next_token_loss`], and [`frozen_head_loss`] where the output layer is not trained.
//! - [`perplexity`] of any model that has [`NextTokenLoss`].
//! - [`generate`] and [`sample_windows`] for any model that has [`NextTokenLogits`].
//! - [`BlockFiles`] for models that are larger than memory.

mod block_files;
mod cache;
mod calibration;
mod documents;
mod encode;
mod error;
mod frozen_head;
mod generate;
mod loader;
mod loss;
mod perplexity;
mod sample_windows;
mod sampler;
mod text_stream;
mod tokenizer;
mod tokens_file;
mod windows;

pub use block_files::BlockFiles;
pub use cache::KvCache;
pub use calibration::{Calibration, CalibrationSizes};
pub use documents::{END_OF_TEXT, read_documents};
pub use encode::{SpecialTokens, encode, encode_windows};
pub use error::{LmError, ModelError};
pub use frozen_head::frozen_head_loss;
pub use generate::{Generated, GenerationLimits, NextTokenLogits, generate};
pub use loss::{NextTokenLoss, next_token_log_probs, next_token_loss};
pub use perplexity::perplexity;
pub use sample_windows::sample_windows;
pub use sampler::Sampler;
pub use text_stream::TextStream;
pub use tokenizer::load_tokenizer;
pub use tokens_file::read_tokens;
pub use windows::{TokenBatch, TokenWindows};
