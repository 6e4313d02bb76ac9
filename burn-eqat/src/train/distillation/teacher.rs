use super::DistillationConfig;
use super::kept::Kept;
use crate::train::by_blocks::without_gradients;
use crate::train::event::OnEvent;
use crate::train::{Blockwise, CacheConfig, ModelError, TrainError, catch_ops, with_block};
use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use std::sync::Arc;

/// A model in full precision that a quantized one learns from. Nothing of it trains.
#[derive(Clone, Debug)]
pub struct Teacher<M> {
    model: M,
    kept: Option<Arc<Kept>>,
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
    /// A teacher. Its blocks may be in files; then each is read for each batch, unless [`keep`](Self::keep) has
    /// what they make.
    pub fn new(model: M) -> Self {
        Self {
            model: model.valid(),
            kept: None,
        }
    }

    /// Keeps what the last block makes of all samples of some data in a file, so that it is computed once, and each block is read once
    /// where blocks are in files. It is in the type and the directory of `cache`, whose budget is for what is on its way through the
    /// blocks. The file is gone with the teacher and all its clones.
    ///
    /// Samples are found again in batches of any order. Those that are not there are computed, and so is everything where the model
    /// [has no rows of samples](Blockwise::rows_are_samples). Each loader is read once.
    ///
    /// `on_event` gets a [`TrainEvent::Pass`](crate::train::TrainEvent::Pass) for each batch, at the first block and behind each, and may stop with an error.
    ///
    /// ```no_run
    /// # use burn::data::dataloader::DataLoader;
    /// # use burn_eqat::train::{Blockwise, CacheConfig, Teacher, TrainError};
    /// # use std::sync::Arc;
    /// # fn keep<M: Blockwise>(original: M, train: Arc<dyn DataLoader<M::Batch>>) -> Result<(), TrainError> {
    /// let teacher = Teacher::new(original).keep(&[train], &CacheConfig::new(), &mut |_| Ok(()))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the model's own code or the callback fails, a batch cannot be read, or there is no room for the file.
    pub fn keep(
        mut self,
        data: &[Arc<dyn DataLoader<M::Batch>>],
        cache: &CacheConfig,
        on_event: OnEvent<'_>,
    ) -> Result<Self, TrainError> {
        if self.model.rows_are_samples() {
            let plain = self.model.valid();
            let kept = catch_ops(|| Kept::fill(&plain, data, cache, on_event))?;
            self.kept = kept.map(Arc::new);
        }
        Ok(self)
    }

    /// The same where a batch's tensors are when gradients are recorded.
    pub(super) fn train(self) -> Self {
        Self {
            model: self.model.train().no_grad(),
            kept: self.kept,
        }
    }

    /// The same where a batch's tensors are when they are not.
    pub(super) fn valid(&self) -> Self {
        Self {
            model: self.model.valid(),
            kept: self.kept.clone(),
        }
    }

    /// The same on another device.
    pub(super) fn to_device(&self, device: &Device) -> Self {
        Self {
            model: self.model.clone().to_device(device),
            kept: self.kept.clone(),
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
        let kept = self.kept.as_ref();
        let kept = kept.map(|kept| kept.find::<M>(&hidden, &context));
        match kept.transpose()?.flatten() {
            Some(made) => hidden = made,
            None => {
                for index in 0..plain.blocks().len() {
                    hidden = with_block(&plain, index)?.run_block(index, hidden, &context)?;
                }
            }
        }
        learn(Lesson {
            teacher: &plain,
            hidden,
            config,
        })
    }
}
