use crate::error::Error;
use burn_eqat::lm::LmError;
use std::collections::BTreeSet;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::whitespace::Whitespace;
use tokenizers::{AddedToken, Tokenizer};

/// Special tokens, from id 0 on: unknown words, the beginning and the end of a text, and places for features.
const SPECIAL: [&str; 4] = ["<unk>", "<s>", "</s>", "<media>"];
/// Words of the template.
const TEMPLATE: [&str; 4] = ["user", "assistant", ":", "?"];

/// The token that begins a text.
pub(crate) const BOS: u32 = 1;
/// The token that ends an answer.
pub(crate) const EOS: u32 = 2;
/// The token in whose place features come.
pub(crate) const MEDIA: u32 = 3;

/// A tokenizer of whole words.
///
/// # Errors
///
/// When the tokenizer cannot be made.
pub fn vocabulary(words: &[&str]) -> Result<Tokenizer, Error> {
    let failed = |error: tokenizers::Error| LmError::Tokenizer(error.to_string());
    let words: BTreeSet<&str> = words.iter().chain(&TEMPLATE).copied().collect();
    let tokens = SPECIAL.iter().copied().chain(words);
    let ids = tokens
        .enumerate()
        .map(|(id, token)| (token.to_string(), id as u32));
    let model = WordLevel::builder()
        .vocab(ids.collect())
        .unk_token(SPECIAL[0].into())
        .build()
        .map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(Lowercase))
        .map_err(failed)?
        .with_pre_tokenizer(Some(Whitespace {}));
    let special = SPECIAL.map(|token| AddedToken::from(token, true).normalized(false));
    tokenizer.add_special_tokens(special).map_err(failed)?;
    Ok(tokenizer)
}
