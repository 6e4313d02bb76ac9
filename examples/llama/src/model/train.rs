//! A Llama in Burn's training loops and in the two phases.

use super::{Llama, LlamaError};
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use burn_eqat::StoredBlock;
use burn_eqat::lm::{NextTokenLoss, TokenBatch, frozen_head_distillation};
use burn_eqat::train::{Blockwise, Lesson, ModelError, QatOutput};

impl Llama {
    fn next_token_step(&self, batch: TokenBatch) -> QatOutput {
        let tokens = batch.predicted();
        // Burn's steps give no error back. A block is in a file here only where a run directory that was whole has lost it.
        let loss = self.loss(batch).unwrap_or_else(|error| panic!("{error}"));
        QatOutput::next_token(loss, tokens)
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
    type Hidden = Tensor<3>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        let blocks = 0..Llama::blocks(self);
        blocks
            .map(|index| format!("model.layers.{index}"))
            .collect()
    }

    fn embed(&self, batch: TokenBatch) -> Result<(Tensor<3>, ()), ModelError> {
        Ok((Llama::embed(self, batch.tokens), ()))
    }

    fn run_block(
        &self,
        index: usize,
        hidden: Tensor<3>,
        _context: &(),
    ) -> Result<Tensor<3>, ModelError> {
        self.with_block(index, |block| block.forward(hidden, &self.rope, None))
            .map_err(LlamaError::into_model)
    }

    fn output_loss(
        &self,
        hidden: Tensor<3>,
        _context: &(),
        batch: TokenBatch,
    ) -> Result<Tensor<1>, ModelError> {
        Ok(self.loss_behind(hidden, batch))
    }

    fn distills(&self) -> bool {
        true
    }

    fn distillation_loss(
        &self,
        hidden: Tensor<3>,
        _context: &(),
        batch: TokenBatch,
        lesson: Lesson<'_, Self>,
    ) -> Result<Tensor<1>, ModelError> {
        let original = lesson.teacher;
        let teacher = (original.last_norm(lesson.hidden), original.head_weight());
        let (hidden, head) = (self.last_norm(hidden), self.head_weight());
        Ok(frozen_head_distillation(
            hidden,
            head,
            teacher,
            batch,
            lesson.config,
        ))
    }

    fn rows_are_samples(&self) -> bool {
        true
    }

    fn batch_to_device(batch: TokenBatch, device: &Device) -> Result<TokenBatch, ModelError> {
        Ok(batch.to_device(device))
    }

    fn is_loaded(&self, index: usize) -> bool {
        matches!(self.model.layers.get(index), Some(Some(_)))
    }

    fn outline(&self) -> Option<Self> {
        let files = self.files.as_ref()?;
        let mut whole = self.clone();
        for (index, block) in whole.model.layers.iter_mut().enumerate() {
            block.get_or_insert_with(|| files.outline(index));
        }
        Some(whole)
    }

    fn load_block(&mut self, index: usize) -> Result<(), ModelError> {
        self.read_block(index).map_err(LlamaError::into_model)
    }

    fn outline_block(&mut self, index: usize) {
        if let Some(files) = &self.files {
            self.model.layers[index] = Some(files.outline(index));
        }
    }

    fn store_block(&mut self, index: usize, block: StoredBlock) -> bool {
        let Some(files) = &mut self.files else {
            return false;
        };
        files.store(index, block);
        self.model.layers[index] = None;
        true
    }

    fn stored_block(&self, index: usize) -> Option<StoredBlock> {
        self.files.as_ref()?.stored(index).cloned()
    }
}
