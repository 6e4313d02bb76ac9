//! What a teacher made of its data, in a file.

use crate::train::by_blocks::without_gradients;
use crate::train::cache::{RowCache, StateCache, row_keys};
use crate::train::event::OnEvent;
use crate::train::launch::data_error;
use crate::train::{
    Blockwise, CacheConfig, Flow, FlowError, FlowMapper, ModelError, Pass, TrainError, TrainEvent,
    with_block,
};
use burn::data::dataloader::DataLoader;
use burn::tensor::{Device, Tensor};
use std::sync::Arc;

/// The output of a model's last block for each sample of some data, by what goes into its first block.
pub(super) struct Kept(RowCache);

impl core::fmt::Debug for Kept {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    /// Runs a model, which records no gradients, on all samples: all of them through a block before the next. `None` where a batch has
    /// no rows of samples.
    pub fn fill<M: Blockwise>(
        model: &M,
        data: &[Arc<dyn DataLoader<M::Batch>>],
        cache: &CacheConfig,
        on_event: OnEvent<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let device = model.devices().into_iter().next().unwrap_or_default();
        let samples: usize = data.iter().map(|loader| loader.num_items()).sum();
        let mut states = StateCache::<M>::new(cache, &device);
        let mut keys = Vec::new();
        for loader in data {
            let loader = loader.to_device(&device);
            for batch in loader.iter() {
                let embedded = model.embed(batch.map_err(data_error)?);
                let (hidden, context) = embedded.map_err(TrainError::Model)?;
                let (hidden, context) = (without_gradients(hidden), without_gradients(context));
                let rows = row_keys(hidden.clone(), context.clone()).map_err(of_model)?;
                let Some(rows) = rows.filter(|rows| !rows.is_empty()) else {
                    return Ok(None);
                };
                let batches = samples.div_ceil(rows.len());
                keys.push(rows);
                states.push(hidden, context, batches)?;
                on_event(TrainEvent::Pass {
                    pass: Pass::Lessons,
                    block: None,
                    done: keys.len(),
                    total: batches,
                })?;
            }
        }
        for index in 0..model.blocks().len() {
            let block = with_block(model, index)?;
            let (mut done, total) = (0, keys.len());
            states.advance(|hidden, context| {
                let output = block.run_block(index, hidden, context);
                done += 1;
                on_event(TrainEvent::Pass {
                    pass: Pass::Lessons,
                    block: Some(index),
                    done,
                    total,
                })?;
                output.map_err(TrainError::Model)
            })?;
        }
        let mut rows = RowCache::new(cache, samples);
        let mut keys = keys.iter();
        states.for_each(|hidden, _| {
            let keys = keys.next().expect("there is a list for each batch");
            rows.push(keys, hidden)
        })?;
        rows.shrink()?;
        Ok(Some(Self(rows)))
    }

    /// The output of the last block for what goes into the first; `None` where a sample of it is not there.
    pub fn find<M: Blockwise>(
        &self,
        hidden: &M::Hidden,
        context: &M::Context,
    ) -> Result<Option<M::Hidden>, ModelError> {
        let Some(device) = device_of(hidden) else {
            return Ok(None);
        };
        match row_keys(hidden.clone(), context.clone())? {
            Some(keys) => Ok(self.0.get(&keys, &device)?),
            None => Ok(None),
        }
    }
}

fn of_model(error: FlowError) -> TrainError {
    TrainError::Model(error.into())
}

/// Where a value is: the device of its first float tensor.
fn device_of<F: Flow>(flow: &F) -> Option<Device> {
    struct First(Option<Device>);
    impl FlowMapper for First {
        fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            self.0.get_or_insert_with(|| tensor.device());
            tensor
        }
    }
    let mut first = First(None);
    flow.clone().map_tensors(&mut first);
    first.0
}
