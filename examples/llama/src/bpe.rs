use crate::error::Error;
use burn_eqat::lm::LmError;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// The BOS token of our tokenizers; its id is 0.
const BOS: &str = "<s>";
/// The EOS token of our tokenizers; its id is 1.
const EOS: &str = "</s>";

/// Trains a byte-level BPE tokenizer, whose special tokens are `<s>` (0) and `</s>` (1).
///
/// # Errors
///
/// When the vocabulary is too small for the 256 bytes and the special tokens.
pub fn train_tokenizer(documents: &[String], vocab_size: usize) -> Result<Tokenizer, Error> {
    if vocab_size < 256 + 2 {
        let message = format!("a vocabulary of {vocab_size} is too small, expected 258 or more");
        return Err(Error::Setting(message));
    }
    let failed = |error: tokenizers::Error| LmError::Tokenizer(error.to_string());
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(vocab_size)
        .min_frequency(2)
        .initial_alphabet(alphabet.into_iter().collect())
        .special_tokens(vec![
            AddedToken::from(BOS, true),
            AddedToken::from(EOS, true),
        ])
        .build();
    let mut trainer_wrapper = tokenizers::models::TrainerWrapper::BpeTrainer(std::mem::replace(
        &mut trainer,
        BpeTrainerBuilder::new().build(),
    ));
    tokenizer
        .train(&mut trainer_wrapper, documents.iter().map(String::as_str))
        .map_err(failed)?;
    let template = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .map_err(LmError::Tokenizer)?
        .special_tokens(vec![(BOS, 0)])
        .build()
        .map_err(|error| LmError::Tokenizer(error.to_string()))?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer)
}
