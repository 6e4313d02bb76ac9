//! Text from a prompt.

use crate::error::Error;
use crate::load::LoadedLlama;
use crate::sample::Sampler;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::time::Instant;
use tokenizers::Tokenizer;

/// What was written, and how fast.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Prompt and continuation; of an [`answer`], only what is new.
    pub text: String,
    /// New tokens.
    pub tokens: usize,
    /// New tokens a second, the prompt not counted.
    pub tokens_per_second: f64,
}

/// Continues a prompt until the model ends the text, `max_new_tokens` are written or its positions are
/// used up. `show` gets the text piece by piece and may stop with an error.
///
/// # Errors
///
/// When the prompt cannot be encoded or is too long, or `show` says to stop.
pub fn generate(
    loaded: &LoadedLlama,
    tokenizer: &Tokenizer,
    prompt: &str,
    max_new_tokens: usize,
    sampler: &mut Sampler,
    device: &Device,
    show: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<Generated, Error> {
    let encoding = tokenizer.encode(prompt, false).map_err(failed)?;
    let mut ids: Vec<u32> = loaded.config.bos_token_id.into_iter().collect();
    ids.extend_from_slice(encoding.get_ids());
    let text = Text::new(tokenizer, show, 0);
    continue_tokens(loaded, ids, max_new_tokens, sampler, device, text)
}

/// Answers a conversation that is written out already, special tokens and all: as [`generate`], but only
/// what is new is shown and given back.
///
/// # Errors
///
/// As [`generate`].
pub fn answer(
    loaded: &LoadedLlama,
    tokenizer: &Tokenizer,
    conversation: &str,
    max_new_tokens: usize,
    sampler: &mut Sampler,
    device: &Device,
    show: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<Generated, Error> {
    let encoding = tokenizer.encode(conversation, false).map_err(failed)?;
    let ids = encoding.get_ids().to_vec();
    let text = Text::new(tokenizer, show, ids.len());
    continue_tokens(loaded, ids, max_new_tokens, sampler, device, text)
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

/// Tokens becoming text, shown as it becomes whole.
struct Text<'a> {
    tokenizer: &'a Tokenizer,
    show: &'a mut dyn FnMut(&str) -> Result<(), Error>,
    /// Tokens that are not a part of it.
    skipped: usize,
    shown: usize,
}

impl<'a> Text<'a> {
    fn new(
        tokenizer: &'a Tokenizer,
        show: &'a mut dyn FnMut(&str) -> Result<(), Error>,
        skipped: usize,
    ) -> Self {
        Text {
            tokenizer,
            show,
            skipped,
            shown: 0,
        }
    }

    /// Shows what is new of the tokens' text, and gives back all of it.
    fn show_new(&mut self, ids: &[u32], last: bool) -> Result<String, Error> {
        let text = self
            .tokenizer
            .decode(&ids[self.skipped..], true)
            .map_err(failed)?;
        // A character may take several tokens; show it once it is whole.
        if (last || !text.ends_with('\u{FFFD}')) && text.is_char_boundary(self.shown) {
            (self.show)(&text[self.shown.min(text.len())..])?;
            self.shown = text.len();
        }
        Ok(text)
    }
}

fn continue_tokens(
    loaded: &LoadedLlama,
    mut ids: Vec<u32>,
    max_new_tokens: usize,
    sampler: &mut Sampler,
    device: &Device,
    mut text: Text<'_>,
) -> Result<Generated, Error> {
    let limit = loaded.config.positions();
    if ids.is_empty() || ids.len() > limit {
        let message = format!("the prompt has {} tokens, expected 1 to {limit}", ids.len());
        return Err(Error::Setting(message));
    }

    let forward = |tokens: &[u32], cache: &mut [crate::model::KvCache]| {
        let tokens: Vec<i32> = tokens.iter().map(|id| *id as i32).collect();
        let shape = [1, tokens.len()];
        let input = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), device);
        loaded.model.forward_cached(input, cache)
    };
    let mut cache = loaded.model.new_cache();
    text.show_new(&ids, false)?;
    let mut logits = forward(&ids, &mut cache);
    let start = Instant::now();
    let mut new = 0;
    while new < max_new_tokens && ids.len() < limit {
        let token = sampler.sample(logits)[0];
        new += 1;
        if loaded.is_end(token) {
            break;
        }
        ids.push(token);
        text.show_new(&ids, false)?;
        logits = forward(&[token], &mut cache);
    }
    let seconds = start.elapsed().as_secs_f64();
    let text = text.show_new(&ids, true)?;
    Ok(Generated {
        text,
        tokens: new,
        tokens_per_second: new as f64 / seconds.max(1e-9),
    })
}
