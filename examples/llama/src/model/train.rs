use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// A batch of token windows, `[batch, seq]`.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// The tokens.
    pub tokens: Tensor<2, Int>,
}

/// Mean cross-entropy of each position's next token, in nats: `[1]`. Positions but the last of each
/// window predict the one behind them.
pub fn next_token_loss(logits: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<1> {
    next_token_log_probs(logits, tokens).mean().neg()
}

/// Log-probability of each next token, `[batch, seq - 1]`.
pub(crate) fn next_token_log_probs(logits: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<2> {
    let [batch, seq, vocab] = logits.dims();
    let targets = tokens.slice_dim(1, 1..seq).reshape([batch * (seq - 1), 1]);
    let logits = logits
        .slice_dim(1, 0..seq - 1)
        .reshape([batch * (seq - 1), vocab]);
    log_softmax(logits, 1)
        .gather(1, targets)
        .reshape([batch, seq - 1])
}
