//! A Llama under Burn's training loops and under the two phases.

use super::{DecoderBlock, Llama};
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use burn_eqat::lm::{NextTokenLoss, TokenBatch};
use burn_eqat::train::{Blockwise, QatOutput};

impl Llama {
    fn next_token_step(&self, batch: TokenBatch) -> QatOutput {
        let [windows, seq] = batch.tokens.dims();
        // Burn's steps give no error back. A model that trains end to end is in memory as a whole.
        let loss = self.loss(batch).unwrap_or_else(|error| panic!("{error}"));
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
        let block = self.with_block(index, DecoderBlock::clone);
        block.unwrap_or_else(|error| panic!("{error}"))
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
