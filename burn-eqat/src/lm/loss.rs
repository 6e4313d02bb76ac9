use super::{ModelError, TokenBatch};
use crate::compute_type::widen;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// A language model that computes its next-token loss, for [`perplexity`](super::perplexity).
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
