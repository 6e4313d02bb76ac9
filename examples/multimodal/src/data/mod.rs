//! The data of the two little models: pictures and sounds that this program makes, and questions about them.

mod loader;
mod scene;
mod sound;
mod vocabulary;
mod world;

pub use loader::{DialogueBatcher, Dialogues, Loader, loader};
pub(crate) use scene::SIZE as PICTURE;
pub(crate) use sound::{RATE, SAMPLES};
pub use vocabulary::vocabulary;
pub(crate) use vocabulary::{BOS, EOS, MEDIA};
pub use world::{Made, Sample, Turn, World};
