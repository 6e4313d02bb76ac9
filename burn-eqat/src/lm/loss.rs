use super::{ModelError, TokenBatch};
use crate::compute_type::widen;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// A language model that computes its next-token loss, for [`perplexity`](super::perplexity).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::lm::{ModelError, NextTokenLoss, TokenBatch, next_token_loss};
///
/// /// Ten tokens, all of them as likely as another.
/// struct Uniform;
///
/// impl NextTokenLoss for Uniform {
///     fn loss(&self, batch: TokenBatch) -> Result<Tensor<1>, ModelError> {
///         let [windows, seq_len] = batch.tokens.dims();
///         let logits = Tensor::zeros([windows, seq_len, 10], &batch.tokens.device());
///         Ok(next_token_loss(logits, batch.tokens))
///     }
/// }
///
/// let batch = TokenBatch::new(vec![1, 2, 3, 4], 4, &Device::flex());
/// let loss: f64 = Uniform.loss(batch)?.into_scalar();
/// assert!((loss - 10_f64.ln()).abs() < 1e-5);
/// # Ok::<(), ModelError>(())
/// ```
pub trait NextTokenLoss {
    /// Mean cross-entropy of each position's next token in a batch of windows, in nats: `[1]`.
    ///
    /// # Errors
    ///
    /// When the model cannot run, for example because its files have changed.
    fn loss(&self, batch: TokenBatch) -> Result<Tensor<1>, ModelError>;
}

/// Mean cross-entropy of each position's next token, in nats. The last position of a window predicts nothing.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat::lm::next_token_loss;
///
/// let device = Device::flex();
/// let logits = Tensor::<3>::zeros([2, 5, 10], &device);
/// let tokens = Tensor::<2, Int>::from_data([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], &device);
/// let loss: f64 = next_token_loss(logits, tokens).into_scalar();
/// // Ten tokens that are all as likely.
/// assert!((loss - 10_f64.ln()).abs() < 1e-5);
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab]`
/// - `tokens`: `[batch, seq]`
/// - output: `[1]`, in f32 if the logits are in half precision
pub fn next_token_loss(logits: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<1> {
    next_token_log_probs(logits, tokens).mean().neg()
}

/// Mean cross-entropy of some tokens, in nats: [`next_token_loss`] of the answers of a [`TokenBatch`] alone.
///
/// ```
/// use burn::tensor::{Device, Distribution, Int, Tensor};
/// use burn_eqat::lm::{answer_loss, next_token_loss};
///
/// let device = Device::flex();
/// let logits = Tensor::<3>::random([2, 5, 10], Distribution::Default, &device);
/// let tokens = Tensor::<2, Int>::from_data([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], &device);
/// // All tokens but the first of each window, so it is the next-token loss.
/// let answers = Tensor::<1, Int>::from_data([1, 2, 3, 4, 6, 7, 8, 9], &device);
/// let loss = answer_loss(logits.clone(), tokens.clone(), answers);
/// assert!((loss - next_token_loss(logits, tokens)).abs().into_scalar::<f32>() < 1e-5);
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab]`
/// - `tokens`: `[batch, seq]`
/// - `answers`: `[answers]`, as in [`TokenBatch::answers`]
/// - output: `[1]`, in f32 if the logits are in half precision
pub fn answer_loss(
    logits: Tensor<3>,
    tokens: Tensor<2, Int>,
    answers: Tensor<1, Int>,
) -> Tensor<1> {
    let targets = targets_of(tokens, answers.clone());
    log_probs(rows_before(logits, answers), targets)
        .mean()
        .neg()
}

/// The rows `[answers, width]` that predict some tokens, of `[batch, seq, width]`.
pub(super) fn rows_before(rows: Tensor<3>, answers: Tensor<1, Int>) -> Tensor<2> {
    let [batch, seq, width] = rows.dims();
    rows.reshape([batch * seq, width]).select(0, answers - 1)
}

/// These tokens, `[answers]`.
pub(super) fn targets_of(tokens: Tensor<2, Int>, answers: Tensor<1, Int>) -> Tensor<1, Int> {
    let [batch, seq] = tokens.dims();
    tokens.reshape([batch * seq]).select(0, answers)
}

/// Log-probability of each position's next token.
///
/// ```
/// use burn::tensor::{Device, Distribution, Int, Tensor};
/// use burn_eqat::lm::next_token_log_probs;
///
/// let device = Device::flex();
/// let logits = Tensor::<3>::random([2, 5, 10], Distribution::Default, &device);
/// let tokens = Tensor::<2, Int>::from_data([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], &device);
/// let log_probs = next_token_log_probs(logits, tokens);
/// assert_eq!(log_probs.dims(), [2, 4]);
/// // Log-probability of each text, without its first token.
/// let texts = log_probs.sum_dim(1);
/// assert!(texts.max().into_scalar::<f32>() < 0.0);
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab]`
/// - `tokens`: `[batch, seq]`
/// - output: `[batch, seq - 1]`, in f32 if the logits are in half precision
pub fn next_token_log_probs(logits: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<2> {
    let [batch, seq, vocab] = logits.dims();
    let rows = batch * (seq - 1);
    let targets = tokens.slice_dim(1, 1..seq).reshape([rows]);
    let logits = logits.slice_dim(1, 0..seq - 1).reshape([rows, vocab]);
    log_probs(logits, targets).reshape([batch, seq - 1])
}

/// Log-probability `[rows, 1]` of each row's target, from logits `[rows, vocab]`.
fn log_probs(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
    log_softmax(widen(logits), 1).gather(1, targets.unsqueeze_dim(1))
}
