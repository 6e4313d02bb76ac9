//! A CLIP vision tower, and how images are prepared for it.

mod block;
mod processor;
mod tower;

pub use block::{ClipBlock, ClipMlp};
pub use processor::ImageProcessor;
pub use tower::{ClipEmbeddings, ClipEncoder, ClipVision, VisionTower};
