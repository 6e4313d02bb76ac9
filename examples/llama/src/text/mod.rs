//! Text in, windows of tokens out.

mod bpe;
mod documents;
mod windows;

pub use bpe::train_tokenizer;
pub use documents::{END_OF_TEXT, read_documents};
pub use windows::{TokenWindows, encode_windows};
