//! A Llama under Burn's training loops and under the two phases.

use super::block::normed;
use super::loss::frozen_head_loss;
use super::{DecoderBlock, Llama};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use burn_eqat::train::{Blockwise, QatOutput};

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

impl Llama {
    /// [`next_token_loss`] from the output of the last block, `[batch, seq, hidden]`.
    pub(crate) fn loss_behind(&self, hidden: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<1> {
        if hidden.is_autodiff() && self.head_trains() {
            return next_token_loss(self.head(hidden), tokens);
        }
        let [windows, seq, width] = hidden.dims();
        let rows = windows * (seq - 1);
        let hidden = normed(&self.model.norm, hidden.slice_dim(1, 0..seq - 1));
        let targets = tokens.slice_dim(1, 1..seq).reshape([rows]);
        frozen_head_loss(hidden.reshape([rows, width]), self.head_weight(), targets)
    }

    fn next_token_step(&self, batch: TokenBatch) -> QatOutput {
        let [windows, seq] = batch.tokens.dims();
        let loss = self.loss_behind(self.decode(batch.tokens.clone()), batch.tokens);
        QatOutput::next_token(loss, windows * (seq - 1))
    }
}

impl TrainStep for Llama {
    type Input = TokenBatch;
    type Output = QatOutput;

    fn step(&self, batch: TokenBatch) -> TrainOutput<QatOutput> {
        let output = self.next_token_step(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Llama {
    type Input = TokenBatch;
    type Output = QatOutput;

    fn step(&self, batch: TokenBatch) -> QatOutput {
        self.next_token_step(batch)
    }
}

impl Blockwise for Llama {
    type Batch = TokenBatch;
    type Block = DecoderBlock;
    type Hidden = Tensor<3>;
    type Context = ();

    fn embed(&self, batch: TokenBatch) -> (Tensor<3>, ()) {
        (Llama::embed(self, batch.tokens), ())
    }

    fn num_blocks(&self) -> usize {
        self.blocks()
    }

    fn block(&self, index: usize) -> DecoderBlock {
        self.with_block(index, DecoderBlock::clone)
    }

    fn block_path(&self, index: usize) -> Option<String> {
        Some(format!("model.layers.{index}"))
    }

    fn set_block(&mut self, index: usize, block: DecoderBlock) {
        self.put_block(index, block);
    }

    fn run_block(
        &self,
        _index: usize,
        block: &DecoderBlock,
        hidden: Tensor<3>,
        _context: &(),
    ) -> Tensor<3> {
        block.forward(hidden, &self.rope, None)
    }
}
