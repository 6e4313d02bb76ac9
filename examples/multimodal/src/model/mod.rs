//! A tower, a projector and a decoder, as one model.

mod answers;
mod batch;
mod error;
mod merge;
mod multimodal;
mod train;

pub use answers::AnswerLimits;
pub use batch::{Example, MediaBatch};
pub use error::MultimodalError;
pub use multimodal::Multimodal;
