//! Quantization attached to the parameters of any Burn module.

mod collect;
mod fake_quant;
mod packed;
mod quantize;
mod repacked;
mod size;

pub use fake_quant::FakeQuant;
pub use packed::Packed;
pub use quantize::{Quantize, QuantizeError};
pub use size::SizeReport;

pub(crate) use collect::packed_weights;
pub(crate) use quantize::selected_ids;
