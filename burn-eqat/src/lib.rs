//! Quantization-aware training for Burn.
#![deny(missing_docs)]

pub mod files;
mod module;
mod nn;
mod quantizer;
mod scheme;
pub mod train;

pub use burn_eqat_kernels as kernels;
pub use burn_eqat_kernels::Bits;
pub use module::{FakeQuant, Packed, Quantize, QuantizeError, SizeReport};
pub use nn::{QuantLinear, QuantLinearConfig};
pub use quantizer::{min_max_start, quantize_codes};
pub use scheme::{GroupSize, Scheme, SchemeError};
