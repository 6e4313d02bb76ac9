use crate::LlamaConfig;
use crate::error::Error;
use crate::model::TokenBatch;
use burn::tensor::{Device, Int, Tensor, TensorData};
use tokenizers::Tokenizer;

/// Windows of tokens of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWindows {
    tokens: Vec<i32>,
    seq_len: usize,
}

impl TokenWindows {
    /// Windows from tokens that lie one window behind the other; a rest is dropped.
    pub fn new(mut tokens: Vec<i32>, seq_len: usize) -> Self {
        let seq_len = seq_len.max(1);
        tokens.truncate(tokens.len() / seq_len * seq_len);
        Self { tokens, seq_len }
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.seq_len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of each window.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// One window.
    pub fn window(&self, index: usize) -> &[i32] {
        &self.tokens[index * self.seq_len..][..self.seq_len]
    }

    /// Some of the windows.
    pub fn range(&self, range: std::ops::Range<usize>) -> Self {
        let tokens = self.tokens[range.start * self.seq_len..range.end * self.seq_len].to_vec();
        Self { tokens, ..*self }
    }

    /// The windows as batches of at most `batch` of them, in order.
    pub fn batches(&self, batch: usize, device: &Device) -> Vec<TokenBatch> {
        self.tokens
            .chunks(batch.max(1) * self.seq_len)
            .map(|chunk| {
                let shape = [chunk.len() / self.seq_len, self.seq_len];
                let data = TensorData::new(chunk.to_vec(), shape);
                TokenBatch {
                    tokens: Tensor::<2, Int>::from_data(data, device),
                }
            })
            .collect()
    }

    /// Checks that every token is in a vocabulary of `vocab_size`.
    ///
    /// # Errors
    ///
    /// Names the first token that is not.
    pub fn check_vocabulary(&self, vocab_size: usize, source: &str) -> Result<(), Error> {
        let outside = |token: &i32| usize::try_from(*token).map_or(true, |t| t >= vocab_size);
        match self.tokens.iter().position(outside) {
            None => Ok(()),
            Some(at) => Err(Error::Token {
                source_name: source.to_string(),
                token: i64::from(self.tokens[at]),
                window: at / self.seq_len,
                position: at % self.seq_len,
                vocab_size,
            }),
        }
    }
}

/// Tokens of documents, each between the begin and end tokens, one behind the other and cut into
/// windows. A last window that is not full is dropped.
///
/// # Errors
///
/// When a document cannot be encoded.
pub fn encode_windows(
    tokenizer: &Tokenizer,
    documents: &[String],
    config: &LlamaConfig,
    seq_len: usize,
) -> Result<TokenWindows, Error> {
    let mut tokens = Vec::new();
    for document in documents {
        let encoding = tokenizer
            .encode(document.as_str(), false)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        tokens.extend(config.bos_token_id.map(|id| id as i32));
        tokens.extend(encoding.get_ids().iter().map(|id| *id as i32));
        tokens.extend(config.end_token().map(|id| id as i32));
    }
    Ok(TokenWindows::new(tokens, seq_len))
}
