use super::LmError;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::ops::Range;

/// A batch of token windows, and which of their tokens the loss is the mean over.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat::lm::TokenBatch;
///
/// let device = Device::flex();
/// let batch = TokenBatch::new(vec![5, 6, 7, 8, 5, 9, 7, 8], 4, &device);
/// assert_eq!((batch.tokens.dims(), batch.predicted()), ([2, 4], 6));
/// // The loss of the last token of each window alone.
/// let answers = Tensor::<1, Int>::from_data([3, 7], &device);
/// let batch = TokenBatch { answers: Some(answers), ..batch };
/// assert_eq!(batch.predicted(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// The tokens, `[windows, seq_len]`.
    pub tokens: Tensor<2, Int>,
    /// The tokens to predict, `[answers]`: their places `window * seq_len + position`, none of them at position 0. `None` for all
    /// tokens but the first of each window.
    pub answers: Option<Tensor<1, Int>>,
}

impl TokenBatch {
    /// A batch from the joined tokens of its windows.
    ///
    /// # Panics
    ///
    /// When the number of tokens is not a multiple of `seq_len`.
    pub fn new(tokens: Vec<i32>, seq_len: usize, device: &Device) -> Self {
        let shape = [tokens.len() / seq_len.max(1), seq_len];
        let tokens: Tensor<2, Int> = Tensor::from_data(TensorData::new(tokens, shape), device);
        tokens.into()
    }

    /// The number of tokens that the loss is the mean over.
    pub fn predicted(&self) -> usize {
        let [windows, seq_len] = self.tokens.dims();
        match &self.answers {
            Some(answers) => answers.dims()[0],
            None => windows * seq_len.saturating_sub(1),
        }
    }

    /// The same batch on another device.
    pub fn to_device(self, device: &Device) -> Self {
        Self {
            tokens: self.tokens.to_device(device),
            answers: self.answers.map(|answers| answers.to_device(device)),
        }
    }
}

/// Windows all of whose tokens are predicted, but for the first of each.
impl From<Tensor<2, Int>> for TokenBatch {
    fn from(tokens: Tensor<2, Int>) -> Self {
        Self {
            tokens,
            answers: None,
        }
    }
}

/// Windows of tokens, all of one length.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::lm::TokenWindows;
///
/// let windows = TokenWindows::new((0..17).collect(), 4);
/// // The last token fills no window.
/// assert_eq!((windows.len(), windows.seq_len()), (4, 4));
/// assert_eq!(windows.window(1), [4, 5, 6, 7]);
/// windows.check_vocabulary(17, "an example")?;
/// let batches = windows.batches(3, &Device::flex());
/// assert_eq!(batches[0].tokens.dims(), [3, 4]);
/// # Ok::<(), burn_eqat::lm::LmError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWindows {
    tokens: Vec<i32>,
    seq_len: usize,
}

impl TokenWindows {
    /// Splits tokens into windows. An incomplete last window is dropped.
    pub fn new(mut tokens: Vec<i32>, seq_len: usize) -> Self {
        let seq_len = seq_len.max(1);
        tokens.truncate(tokens.len() / seq_len * seq_len);
        Self { tokens, seq_len }
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.seq_len
    }

    /// Whether there are no windows.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens of each window.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The tokens of all windows, joined.
    pub fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// The windows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[i32]> {
        self.tokens.chunks_exact(self.seq_len)
    }

    /// One window.
    ///
    /// # Panics
    ///
    /// When there is no window `index`.
    pub fn window(&self, index: usize) -> &[i32] {
        &self.tokens[index * self.seq_len..][..self.seq_len]
    }

    /// The windows of a range.
    ///
    /// # Panics
    ///
    /// When the range ends after the last window.
    pub fn range(&self, range: Range<usize>) -> Self {
        let tokens = self.tokens[range.start * self.seq_len..range.end * self.seq_len].to_vec();
        Self { tokens, ..*self }
    }

    /// The windows with these indices, in this order.
    ///
    /// # Panics
    ///
    /// When there is no window at an index.
    pub fn select(&self, indices: &[usize]) -> Self {
        let windows: Vec<&[i32]> = indices.iter().map(|index| self.window(*index)).collect();
        Self::new(windows.concat(), self.seq_len)
    }

    /// The windows in batches of `batch_size`, in order. The last batch may have fewer.
    pub fn batches(&self, batch_size: usize, device: &Device) -> Vec<TokenBatch> {
        self.tokens
            .chunks(batch_size.max(1) * self.seq_len)
            .map(|tokens| TokenBatch::new(tokens.to_vec(), self.seq_len, device))
            .collect()
    }

    /// Checks that every token is in a vocabulary of `vocab_size`. `origin` names the source of the tokens in the
    /// error.
    ///
    /// # Errors
    ///
    /// When a token is not in the vocabulary; the error names the first one.
    pub fn check_vocabulary(&self, vocab_size: usize, origin: &str) -> Result<(), LmError> {
        let outside = |token: &i32| usize::try_from(*token).map_or(true, |t| t >= vocab_size);
        match self.tokens.iter().position(outside) {
            None => Ok(()),
            Some(at) => Err(LmError::Token {
                origin: origin.to_string(),
                token: i64::from(self.tokens[at]),
                window: at / self.seq_len,
                position: at % self.seq_len,
                vocab_size,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole() {
        let windows = TokenWindows::new((0..11).collect(), 3);
        assert_eq!((windows.len(), windows.seq_len()), (3, 3));
        assert_eq!(windows.window(2), [6, 7, 8]);
        assert_eq!(windows.select(&[2, 0]).tokens(), [6, 7, 8, 0, 1, 2]);
        assert_eq!(windows.range(1..3), windows.select(&[1, 2]));
        assert!(TokenWindows::new(vec![1, 2], 3).is_empty());
        let batches = windows.batches(2, &Device::flex());
        let shapes: Vec<_> = batches.iter().map(|batch| batch.tokens.dims()).collect();
        assert_eq!(shapes, [[2, 3], [1, 3]]);
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_named() {
        let windows = TokenWindows::new(vec![0, 1, 2, 7, -1, 3], 2);
        assert!(
            TokenWindows::new(vec![0, 6], 2)
                .check_vocabulary(7, "text")
                .is_ok()
        );
        let error = windows.check_vocabulary(7, "text").unwrap_err().to_string();
        assert_eq!(
            error,
            "text: token 7 at position 1 of window 1 is outside the vocabulary of 7"
        );
        assert!(
            windows
                .check_vocabulary(8, "")
                .unwrap_err()
                .to_string()
                .contains("token -1")
        );
    }
}
