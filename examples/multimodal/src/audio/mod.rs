//! A Whisper-style audio tower, and how sounds are prepared for it.

mod block;
mod mel;
mod processor;
mod tower;
mod wav;

pub use block::AudioBlock;
pub use processor::SoundProcessor;
pub use tower::AudioTower;
pub use wav::{read_wav, write_wav};
