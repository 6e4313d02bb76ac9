//! Quantization attached to the parameters of any Burn module.

mod attached;
mod dense;
mod error;
mod fake_quant;
mod floats;
mod layer_size;
mod listed;
mod matrices;
mod packed;
mod quantize;
mod size;
mod tag;
mod trained;
mod walk;
mod weights;

pub use error::QuantizeError;
pub use fake_quant::FakeQuant;
pub use layer_size::LayerSize;
pub use packed::Packed;
pub use quantize::Quantize;
pub use size::SizeReport;
pub use weights::Weights;

pub(crate) use attached::{Attached, FakeQuantized, attached, fake_quantized, packed_weights};
pub(crate) use dense::dense_matrices;
pub(crate) use floats::{float_data, float_shapes, place_floats};
pub(crate) use listed::list_params;
pub(crate) use matrices::{
    Selected, check_overrides, has_selected, is_under, select, selected_under, some_paths,
};
pub(crate) use quantize::{
    attach_fake_quant, attach_searched, attach_skeletons, map_scales, place_scales,
};
pub(crate) use trained::pack_trained;
pub(crate) use walk::ATTACHMENT;
pub(crate) use weights::LINEAR;
