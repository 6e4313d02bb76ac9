use super::DistillationConfig;
use crate::train::by_blocks::without_gradients;
use crate::train::{Blockwise, ModelError, with_block};
use burn::tensor::Device;

/// A model in full precision that a quantized one learns from. Nothing of it trains.
#[derive(Clone, Debug)]
pub struct Teacher<M> {
    model: M,
}

/// What a quantized model is to learn of a batch.
#[derive(Clone, Debug)]
pub struct Lesson<'a, M: Blockwise> {
    /// The original, where no gradients are recorded.
    pub teacher: &'a M,
    /// What its last block made of the batch, where no gradients are recorded.
    pub hidden: M::Hidden,
    /// How much is to be learned from it.
    pub config: DistillationConfig,
}

impl<M: Blockwise> Teacher<M> {
    /// A teacher. Its blocks may be in files; then each is read for each batch.
    pub fn new(model: M) -> Self {
        Self {
            model: model.valid(),
        }
    }

    /// The same where a batch's tensors are when gradients are recorded.
    pub(super) fn train(self) -> Self {
        Self {
            model: self.model.train().no_grad(),
        }
    }

    /// The same where a batch's tensors are when they are not.
    pub(super) fn valid(&self) -> Self {
        Self::new(self.model.clone())
    }

    /// The same on another device.
    pub(super) fn to_device(&self, device: &Device) -> Self {
        Self {
            model: self.model.clone().to_device(device),
        }
    }

    /// Runs a batch, and hands what the last block made of it to `learn`.
    pub(super) fn teach<T>(
        &self,
        batch: M::Batch,
        config: DistillationConfig,
        learn: impl FnOnce(Lesson<'_, M>) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        let (hidden, context) = self.model.embed(batch)?;
        let (mut hidden, context) = (without_gradients(hidden), without_gradients(context));
        let plain = self.model.valid();
        for index in 0..plain.blocks().len() {
            hidden = with_block(&plain, index)?.run_block(index, hidden, &context)?;
        }
        learn(Lesson {
            teacher: &plain,
            hidden,
            config,
        })
    }
}
