//! A multimodal model in Burn's training loops and in the two phases.

use super::merge::in_type;
use super::{MediaBatch, Multimodal, MultimodalError};
use burn::tensor::{Device, Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use burn_eqat::StoredBlock;
use burn_eqat::train::{Blockwise, Lesson, ModelError, QatOutput, distillation_loss};

impl Multimodal {
    fn answer_step(&self, batch: &MediaBatch) -> QatOutput {
        // Burn's steps give no error back. Batches are checked when they are made.
        let loss = self.loss(batch).unwrap_or_else(|error| panic!("{error}"));
        QatOutput::next_token(loss, batch.answers())
    }

    /// The blocks of the tower that both phases go through.
    fn tower_blocks(&self) -> usize {
        let front = self.front().ok().filter(|_| self.with_tower);
        front.map_or(0, |front| front.blocks().len())
    }

    /// A block's place in the decoder; `None` for one of the tower.
    fn in_decoder(&self, index: usize) -> Option<usize> {
        index.checked_sub(self.tower_blocks())
    }
}

impl TrainStep for Multimodal {
    type Input = MediaBatch;
    type Output = QatOutput;

    fn step(&self, batch: MediaBatch) -> TrainOutput<QatOutput> {
        let output = self.answer_step(&batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Multimodal {
    type Input = MediaBatch;
    type Output = QatOutput;

    fn step(&self, batch: MediaBatch) -> QatOutput {
        self.answer_step(&batch)
    }
}

/// Where the tower takes part: embeddings of the tokens, `[batch, seq, hidden]`, and the tokens, `[batch, seq]`, which the
/// decoder's first block needs to put features in their places.
type Text = Option<(Tensor<3>, Tensor<2, Int>)>;

/// The blocks are those of the decoder, in whose hidden state features are positions like others; or those of the tower, and
/// then those of the decoder.
impl Blockwise for Multimodal {
    type Batch = MediaBatch;
    type Hidden = Tensor<3>;
    /// 1 where there is a token and 0 where there is padding, `[batch, seq, 1]`, and the text.
    type Context = (Tensor<3>, Text);

    fn blocks(&self) -> Vec<String> {
        let front = self.front().ok().filter(|_| self.with_tower);
        let mut blocks = front.map_or_else(Vec::new, |front| front.blocks());
        let decoder = self.language_model.blocks();
        blocks.extend(decoder.iter().map(|path| format!("language_model.{path}")));
        blocks
    }

    fn embed(&self, batch: MediaBatch) -> Result<(Tensor<3>, Self::Context), ModelError> {
        let real = batch.real.unsqueeze_dim(2);
        if !self.with_tower {
            let hidden = Multimodal::embed(self, batch.media, batch.tokens);
            return Ok((hidden.map_err(MultimodalError::into_model)?, (real, None)));
        }
        let front = self.front().map_err(MultimodalError::into_model)?;
        let hidden = front
            .embed(batch.media)
            .map_err(MultimodalError::into_model)?;
        let text = self.language_model.embed(batch.tokens.clone());
        Ok((hidden, (real, Some((text, batch.tokens)))))
    }

    fn run_block(
        &self,
        index: usize,
        mut hidden: Tensor<3>,
        (real, text): &Self::Context,
    ) -> Result<Tensor<3>, ModelError> {
        let front = self.front().map_err(MultimodalError::into_model)?;
        let Some(index) = self.in_decoder(index) else {
            return Ok(front.run_block(index, hidden));
        };
        if let (0, Some((text, tokens))) = (index, text) {
            let features = self.project(front, hidden);
            hidden = self
                .merged(text.clone(), tokens.clone(), features)
                .map_err(MultimodalError::into_model)?;
        }
        let hidden = self.language_model.run_block(index, hidden, &())?;
        // Padding is not to be reconstructed.
        let dtype = hidden.dtype();
        Ok(hidden * in_type(real.clone(), dtype))
    }

    fn output_loss(
        &self,
        hidden: Tensor<3>,
        _context: &Self::Context,
        batch: MediaBatch,
    ) -> Result<Tensor<1>, ModelError> {
        Ok(self.loss_behind(hidden, &batch))
    }

    fn distills(&self) -> bool {
        true
    }

    fn distillation_loss(
        &self,
        hidden: Tensor<3>,
        _context: &Self::Context,
        batch: MediaBatch,
        lesson: Lesson<'_, Self>,
    ) -> Result<Tensor<1>, ModelError> {
        let logits = self.answer_logits(hidden, batch.positions.clone());
        // The original is where no gradients are recorded.
        let original = lesson.teacher;
        let teacher = original.answer_logits(lesson.hidden, batch.positions.clone().inner());
        Ok(distillation_loss(
            logits,
            teacher,
            batch.labels,
            lesson.config,
        ))
    }

    fn batch_to_device(batch: MediaBatch, device: &Device) -> Result<MediaBatch, ModelError> {
        Ok(batch.to_device(device))
    }

    // The tower is in memory. The decoder's blocks may be in files, and the decoder knows how.

    fn is_loaded(&self, index: usize) -> bool {
        let decoder = self.in_decoder(index);
        decoder.is_none_or(|index| self.language_model.is_loaded(index))
    }

    fn outline(&self) -> Option<Self> {
        let language_model = self.language_model.outline()?;
        Some(Self {
            language_model,
            ..self.clone()
        })
    }

    fn load_block(&mut self, index: usize) -> Result<(), ModelError> {
        match self.in_decoder(index) {
            Some(index) => self.language_model.load_block(index),
            None => Ok(()),
        }
    }

    fn outline_block(&mut self, index: usize) {
        if let Some(index) = self.in_decoder(index) {
            self.language_model.outline_block(index);
        }
    }

    fn store_block(&mut self, index: usize, block: StoredBlock) -> bool {
        match self.in_decoder(index) {
            Some(index) => self.language_model.store_block(index, block),
            None => false,
        }
    }

    fn stored_block(&self, index: usize) -> Option<StoredBlock> {
        self.language_model.stored_block(self.in_decoder(index)?)
    }
}
