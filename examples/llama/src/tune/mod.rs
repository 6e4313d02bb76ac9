//! Tunes a packed Llama to instructions: E2E-QP on conversations, with the loss on the answers only.

mod alpaca;
mod conversation;
mod job;
mod prompts;

pub use conversation::{Conversation, read_conversations};
pub use job::{TuneConfig, Tuned, tune};
pub use prompts::Prompts;

pub(crate) use job::packed_schemes;
