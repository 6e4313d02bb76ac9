//! Parts that any language model needs to be quantized and measured.
//!
//! - Text: [`read_documents`], [`load_tokenizer`] and [`encode_windows`] make [`TokenWindows`]; [`Calibration`]
//!   splits them, [`Calibration::phase_loaders`] feeds the recipe, and [`TokenWindows::loader`] Burn's training.
//! - Instructions: [`Examples`] are texts of which only the answers are learned; their batches are padded, of texts of about one
//!   length, or packed.
//! - Loss: [`next_token_loss`], and [`frozen_head_loss`] if the output layer is not trained; [`answer_loss`] and
//!   [`frozen_head_answer_loss`] of the answers only.
//! - [`perplexity`] of any model that implements [`NextTokenLoss`].
//! - [`generate`] and [`sample_windows`] for any model that implements [`NextTokenLogits`].
//! - [`PackedTable`] for an output layer of few bits, when a trained model runs.
//! - [`BlockFiles`] for models that are larger than memory.
//!
//! # Example
//!
//! A model that predicts from one token implements both traits. A decoder implements them in the same way.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Embedding, EmbeddingConfig};
//! use burn::tensor::{Device, Int, Tensor};
//! use burn_eqat::lm::*;
//!
//! #[derive(Module, Debug)]
//! struct Bigrams {
//!     logits: Embedding,
//! }
//!
//! impl NextTokenLoss for Bigrams {
//!     fn loss(&self, batch: TokenBatch) -> Result<Tensor<1>, ModelError> {
//!         let logits = self.logits.forward(batch.tokens.clone());
//!         Ok(next_token_loss(logits, batch.tokens))
//!     }
//! }
//!
//! impl NextTokenLogits for Bigrams {
//!     /// The model does not use earlier positions.
//!     type Cache = ();
//!
//!     fn new_cache(&self) {}
//!
//!     fn next_token_logits(&self, tokens: Tensor<2, Int>, _: &mut ()) -> Result<Tensor<2>, ModelError> {
//!         let [batch, new] = tokens.dims();
//!         let last = self.logits.forward(tokens.slice_dim(1, new - 1..new));
//!         let [_, _, vocab] = last.dims();
//!         Ok(last.reshape([batch, vocab]))
//!     }
//! }
//!
//! let device = Device::flex();
//! let model = Bigrams {
//!     logits: EmbeddingConfig::new(50, 50).init(&device),
//! };
//! // Windows of 8 tokens; from text with `encode_windows`.
//! let windows = TokenWindows::new((0..4000).map(|i| i * i % 50).collect(), 8);
//! let sizes = CalibrationSizes { train: 256, valid: 32, e2e: 256 };
//! let data = Calibration::split(&windows, sizes, 42)?;
//! assert_eq!(data.used(), sizes);
//!
//! let before = perplexity(&model, &data.eval, &device, &mut |_done, _total| Ok(()))?;
//! let loaders = data.phase_loaders(BatchSizes { block_ap: 4, e2e_qp: 16 }, 42, &device);
//! // ... which go to the recipe, with a model that has `Blockwise` and Burn's steps ...
//!
//! let limits = GenerationLimits { max_new_tokens: 20, max_positions: 64, eos: vec![0] };
//! let mut sampler = Sampler::new(0.7, 0.9, 42);
//! let text = generate(&model, &[3, 9], &limits, &mut sampler, &device, &mut |_token| Ok(()))?;
//! assert!(before > 1.0 && text.sampled <= 20);
//! # Ok::<_, LmError>(())
//! ```

mod block_files;
mod cache;
mod calibration;
mod distillation;
mod documents;
mod encode;
mod error;
mod examples;
mod frozen_head;
mod generate;
mod head;
mod loader;
mod loss;
mod packed_table;
mod perplexity;
mod phase_loaders;
mod sample_windows;
mod sampler;
mod text_stream;
mod tokenizer;
mod tokens_file;
mod windows;

pub use block_files::BlockFiles;
pub use cache::KvCache;
pub use calibration::{Calibration, CalibrationSizes};
pub use distillation::frozen_head_distillation;
pub use documents::{END_OF_TEXT, is_json_lines, read_documents, read_json_lines};
pub use encode::{SpecialTokens, encode, encode_windows};
pub use error::{LmError, ModelError};
pub use examples::{Example, Examples};
pub use frozen_head::{frozen_head_answer_loss, frozen_head_loss};
pub use generate::{Generated, GenerationLimits, NextTokenLogits, generate};
pub use head::head_logits;
pub use loss::{NextTokenLoss, answer_loss, next_token_log_probs, next_token_loss};
pub use packed_table::PackedTable;
pub use perplexity::{perplexity, perplexity_by_block};
pub use phase_loaders::BatchSizes;
pub use sample_windows::{sample_more_windows, sample_windows};
pub use sampler::Sampler;
pub use text_stream::TextStream;
pub use tokenizer::load_tokenizer;
pub use tokens_file::{read_tokens, save_tokens};
pub use windows::{TokenBatch, TokenWindows};
