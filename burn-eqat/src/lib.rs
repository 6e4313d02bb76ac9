//! Quantization-aware training for [Burn](burn): any model to 2, 3 or 4 bits per weight by training it.
//!
//! This is EfficientQAT ([arXiv 2407.11062](https://arxiv.org/abs/2407.11062)) for Burn modules. A model's type never
//! changes, only the attachments of its weights do:
//!
//! 1. [`Quantize`] attaches fake quantization to the weights that [`Weights`] select, packs them, and unpacks them;
//!    [`Quantize::quantize_rtn`] does it without training (round to nearest).
//! 2. [`train::BlockAp`] trains all parameters of each block in turn to match its full-precision original. A model
//!    implements [`train::Blockwise`] to run block by block.
//! 3. [`train::E2eQp`] then trains the step sizes of the packed model end to end.
//! 4. [`files`] reads and writes checkpoint directories in the Hugging Face layout.
//! 5. [`adapter`] keeps several sets of step sizes for one packed model.
//! 6. `lm` (with the cargo feature `lm`) has parts for language models: token windows, the next-token loss, perplexity,
//!    generation.
//!
//! Both phases are strategies of Burn's `SupervisedTraining`. [`QuantLinear`] replaces `nn::Linear`: it runs from packed
//! weights and keeps no dense one.
//!
//! # Cargo features
//!
//! One for each Burn backend: `flex` (default), `ndarray`, `tch`, `wgpu`, `vulkan`, `metal`, `cuda`, `rocm`, `cpu` (Burn
//! 0.23 removes `ndarray` and `tch`); Burn's `fusion`, `autotune` and `persistence`, which keeps what was tuned and
//! compiled on a GPU for the next run; `cuda-cpp`, CubeCL's C++ compiler for CUDA; `tui` for Burn's terminal dashboard;
//! and `lm` for the module `lm`.
#![deny(missing_docs)]

pub mod adapter;
mod compute_type;
pub mod files;
mod inference;
#[cfg(feature = "lm")]
pub mod lm;
mod module;
mod nn;
mod pattern;
mod quantizer;
pub mod recipe;
mod run_dir;
mod scheme;
mod schemes;
pub mod train;

pub use burn_eqat_kernels as kernels;
pub use burn_eqat_kernels::Bits;
pub use compute_type::{ComputeType, ComputeTypeError};
pub use inference::InferenceConfig;
pub use module::{FakeQuant, LayerSize, Packed, Quantize, QuantizeError, SizeReport, Weights};
pub use nn::{MergedLinears, QuantLinear, QuantLinearConfig, linears_of_norm};
pub use quantizer::{StartValues, StartValuesError, min_max_start, quantize_codes, searched_start};
pub use recipe::{
    Comparison, EfficientQat, EfficientQatConfig, Method, Observer, PhaseLoaders, Stage, StageName,
};
pub use run_dir::{RunDir, RunDirError, StoredBlock};
pub use scheme::{GroupSize, Scheme, SchemeError};
pub use schemes::{SchemeOverride, Schemes};
