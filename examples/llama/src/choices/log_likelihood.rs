use super::Prompt;
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::Llama;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_eqat::lm::{LmError, encode};
use tokenizers::Tokenizer;

/// Tokens that go through the model at a time, unless a single text has more: each takes a row of the vocabulary's width.
const TOKENS: usize = 1024;

/// Measures how likely a model takes continuations to be.
pub struct Scorer<'a> {
    model: &'a Llama,
    tokenizer: Tokenizer,
    bos: Option<u32>,
    /// What an empty context is made of.
    prefix: Option<u32>,
    positions: usize,
    device: &'a Device,
}

/// A tokenized prompt.
struct Row {
    tokens: Vec<i32>,
    /// The first token of the continuation.
    from: usize,
}

impl<'a> Scorer<'a> {
    /// A scorer of a loaded model.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot be loaded.
    pub fn new(loaded: &'a LoadedLlama, device: &'a Device) -> Result<Self, Error> {
        let special = loaded.config.special_tokens();
        Ok(Self {
            model: &loaded.model,
            tokenizer: loaded.tokenizer()?,
            bos: special.bos,
            prefix: special.bos.or(special.eos),
            positions: loaded.config.positions(),
            device,
        })
    }

    /// The log-likelihood of each continuation after its context, in nats. The callback `progress` gets the number of
    /// texts done and in all, and may stop with an error.
    ///
    /// # Errors
    ///
    /// When a text cannot be encoded, a continuation is longer than the model's positions, the model fails, or `progress`
    /// returns an error.
    pub fn log_likelihoods(
        &self,
        prompts: &[Prompt],
        progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
    ) -> Result<Vec<f64>, Error> {
        let rows: Vec<Row> = prompts
            .iter()
            .map(|prompt| self.row(prompt))
            .collect::<Result<_, _>>()?;
        // Texts of about the same length go together; the longest first, so that memory is known at once.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(rows[*index].tokens.len()));
        let mut sums = vec![0.0; rows.len()];
        let (mut rest, mut done) = (order.as_slice(), 0);
        while let Some(first) = rest.first() {
            let count = (TOKENS / rows[*first].tokens.len()).clamp(1, rest.len());
            let (batch, later) = rest.split_at(count);
            let batch_rows: Vec<&Row> = batch.iter().map(|index| &rows[*index]).collect();
            for (index, sum) in batch.iter().zip(self.sums(&batch_rows)?) {
                sums[*index] = sum;
            }
            (rest, done) = (later, done + count);
            progress(done, rows.len())?;
        }
        Ok(sums)
    }

    /// The tokens of a prompt.
    fn row(&self, prompt: &Prompt) -> Result<Row, Error> {
        let encode = |text: &str| -> Result<Vec<i32>, Error> {
            let ids = encode(&self.tokenizer, text)?.into_iter();
            Ok(ids.map(|id| id as i32).collect())
        };
        let begin = |token: Option<u32>| token.map(|id| id as i32).into_iter();
        // Spaces between the two belong to the continuation, as words are encoded with the space before them.
        let context = prompt.context.trim_end();
        let spaces = &prompt.context[context.len()..];
        let continuation = format!("{spaces}{}", prompt.continuation);
        let (mut tokens, mut from): (Vec<i32>, usize) = if context.is_empty() {
            let tokens = begin(self.prefix).chain(encode(&continuation)?).collect();
            (tokens, 1)
        } else {
            // The whole is encoded as one text, as tokens may join at the border.
            let whole = encode(&format!("{context}{continuation}"))?;
            let tokens: Vec<i32> = begin(self.bos).chain(whole).collect();
            let given = usize::from(self.bos.is_some()) + encode(context)?.len();
            let last = tokens.len().saturating_sub(1);
            (tokens, given.clamp(1, last.max(1)))
        };
        if tokens.len().saturating_sub(from) > self.positions {
            let (found, limit) = (tokens.len() - from, self.positions);
            let message = format!("a choice of {found} tokens, expected at most {limit}");
            return Err(Error::Setting(message));
        }
        // A text that is too long loses its beginning. Its last token is only predicted.
        let excess = tokens.len().saturating_sub(self.positions + 1);
        tokens.drain(..excess);
        from = from.saturating_sub(excess).max(1);
        Ok(Row { tokens, from })
    }

    /// The log-likelihood of each row's continuation.
    fn sums(&self, rows: &[&Row]) -> Result<Vec<f64>, Error> {
        // One to read and one to predict at least.
        let longest = rows.iter().map(|row| row.tokens.len()).max();
        let longest = longest.unwrap_or(0).max(2);
        let mut padded = Vec::with_capacity(rows.len() * longest);
        for row in rows {
            // No position looks ahead, so padding after a text does not change it.
            padded.extend_from_slice(&row.tokens);
            padded.extend(std::iter::repeat_n(0, longest - row.tokens.len()));
        }
        let shape = [rows.len(), longest];
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(padded, shape), self.device);
        let read = tokens.clone().slice_dim(1, 0..longest - 1);
        let predicted = tokens.slice_dim(1, 1..longest).unsqueeze_dim::<3>(2);
        let logits = self.model.forward(read)?.cast(DType::F32);
        let log_probs: Vec<f64> = log_softmax(logits, 2)
            .gather(2, predicted)
            .into_data()
            .iter::<f64>()
            .collect();
        Ok(rows
            .iter()
            .zip(log_probs.chunks_exact(longest - 1))
            .map(|(row, row_log_probs)| {
                let predicted = row.from - 1..row.tokens.len().saturating_sub(1);
                row_log_probs
                    .get(predicted)
                    .unwrap_or_default()
                    .iter()
                    .sum()
            })
            .collect())
    }
}
