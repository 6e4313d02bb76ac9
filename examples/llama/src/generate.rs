//! Text from a prompt.

use crate::error::Error;
use crate::load::LoadedLlama;
use burn::tensor::Device;
use burn_eqat::lm::{self, GenerationLimits, LmError, Sampler, TextStream};
use tokenizers::Tokenizer;

/// Generated text, and its speed.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Prompt and continuation; for an [`answer`], only the new text.
    pub text: String,
    /// New tokens.
    pub tokens: usize,
    /// New tokens per second, without the prompt.
    pub tokens_per_second: f64,
}

/// Continues a prompt until the model ends the text, `max_new_tokens` are generated, or the model's positions are
/// used up. The callback `show` gets the text piece by piece, and may stop with an error.
///
/// # Errors
///
/// When the prompt cannot be encoded or is too long, or `show` returns an error.
pub fn generate(
    loaded: &LoadedLlama,
    tokenizer: &Tokenizer,
    prompt: &str,
    max_new_tokens: usize,
    sampler: &mut Sampler,
    device: &Device,
    show: &mut dyn FnMut(&str) -> Result<(), LmError>,
) -> Result<Generated, Error> {
    let mut ids: Vec<u32> = loaded.config.bos_token_id.into_iter().collect();
    ids.extend(lm::encode(tokenizer, prompt)?);
    let mut text = TextStream::new(tokenizer);
    show(&text.push(&ids)?)?;
    continue_tokens(loaded, &ids, max_new_tokens, sampler, device, text, show)
}

/// Answers a conversation whose tokens are there, such as those of [`Prompts`](crate::tune::Prompts). Like [`generate`], but
/// shows and returns only the new text.
///
/// # Errors
///
/// As [`generate`].
pub fn answer(
    loaded: &LoadedLlama,
    tokenizer: &Tokenizer,
    conversation: &[u32],
    max_new_tokens: usize,
    sampler: &mut Sampler,
    device: &Device,
    show: &mut dyn FnMut(&str) -> Result<(), LmError>,
) -> Result<Generated, Error> {
    let text = TextStream::new(tokenizer);
    continue_tokens(
        loaded,
        conversation,
        max_new_tokens,
        sampler,
        device,
        text,
        show,
    )
}

fn continue_tokens(
    loaded: &LoadedLlama,
    prompt: &[u32],
    max_new_tokens: usize,
    sampler: &mut Sampler,
    device: &Device,
    mut text: TextStream<'_>,
    show: &mut dyn FnMut(&str) -> Result<(), LmError>,
) -> Result<Generated, Error> {
    let limits = GenerationLimits {
        max_new_tokens,
        max_positions: loaded.config.positions(),
        eos: loaded.eos_tokens().to_vec(),
    };
    let mut on_token = |token| show(&text.push(&[token])?);
    let written = lm::generate(
        &loaded.model,
        prompt,
        &limits,
        sampler,
        device,
        &mut on_token,
    )?;
    show(&text.finish()?)?;
    Ok(Generated {
        text: text.text()?,
        tokens: written.sampled,
        tokens_per_second: written.tokens_per_second,
    })
}
