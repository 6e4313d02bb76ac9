//! The samples of a split, dealt to devices.

use super::SampleCache;
use super::samples::Samples;
use super::storage::Storage;
use crate::train::devices::flow_to_device;
use crate::train::launch::data_error;
use crate::train::{BlockSample, Blockwise, TrainError, catch_ops};
use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

/// The samples of a split, dealt to devices in turn: with `n` of them, sample `k` is on device `k % n`.
pub(in crate::train) struct Shards<M: Blockwise>(Vec<SampleCache<M>>);

/// What is done with the hidden state of each sample.
type Advance<M> = fn(
    &mut SampleCache<M>,
    &mut dyn FnMut(
        <M as Blockwise>::Hidden,
        &<M as Blockwise>::Context,
    ) -> Result<<M as Blockwise>::Hidden, TrainError>,
) -> Result<(), TrainError>;

impl<M: Blockwise> Shards<M> {
    /// Batches at the door of the first block, where the original and the quantized input are the same. They are read one by
    /// one, and those of a device go to disk once the budget is exceeded. `seen` gets each of them.
    pub fn fill(
        model: &M,
        loader: &dyn DataLoader<M::Batch>,
        devices: &[Device],
        storage: &mut Storage,
        seen: &mut dyn FnMut(&M::Hidden) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let shards = devices
            .iter()
            .map(|device| SampleCache::new(device, storage));
        let mut shards: Vec<_> = shards.collect();
        let (mut batches, mut number) = (loader.iter(), 0);
        while let Some(batch) = batches.next() {
            let batch = batch.map_err(data_error)?;
            let (hidden, context) = model.embed(batch).map_err(TrainError::Model)?;
            seen(&hidden)?;
            let shard = &mut shards[number % devices.len()];
            shard.push(hidden, context, &*batches, storage)?;
            number += 1;
        }
        for shard in &mut shards {
            shard.shrink()?;
        }
        Ok(Self(shards))
    }

    /// Batches.
    pub fn len(&self) -> usize {
        self.0.iter().map(SampleCache::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often all devices take a sample, the last time those that have one.
    pub fn steps(&self) -> usize {
        self.len().div_ceil(self.0.len())
    }

    /// The samples in their order, one of each device at a time.
    pub fn samples(&self) -> Result<StepSamples<'_, M>, TrainError> {
        let shards = self.0.iter().map(SampleCache::samples);
        Ok(StepSamples(shards.collect::<Result<_, _>>()?))
    }

    /// The samples as [`samples`](Self::samples) gives them, brought to one device.
    pub fn steps_on(
        &self,
        device: &Device,
    ) -> Result<impl Iterator<Item = Result<Vec<BlockSample<M>>, TrainError>>, TrainError> {
        let device = device.clone();
        let here = move |sample: BlockSample<M>| BlockSample {
            input: flow_to_device(sample.input, &device),
            target: flow_to_device(sample.target, &device),
            context: flow_to_device(sample.context, &device),
        };
        let steps = self.samples()?;
        Ok(steps.map(move |samples| Ok(samples?.into_iter().map(&here).collect())))
    }

    /// Takes the targets through a block: `block` those of the first device, and each of the `copies` of the model, all of
    /// whose numbers it has, those of another.
    pub fn advance_targets(
        &mut self,
        index: usize,
        copies: &mut [M],
        block: impl FnMut(M::Hidden, &M::Context) -> Result<M::Hidden, TrainError>,
    ) -> Result<(), TrainError> {
        let advance: Advance<M> = |shard, block| shard.advance_targets(block);
        self.advance(index, copies, block, advance)
    }

    /// Takes the inputs through a block, as [`advance_targets`](Self::advance_targets).
    pub fn advance_inputs(
        &mut self,
        index: usize,
        copies: &mut [M],
        block: impl FnMut(M::Hidden, &M::Context) -> Result<M::Hidden, TrainError>,
    ) -> Result<(), TrainError> {
        let advance: Advance<M> = |shard, block| shard.advance_inputs(block);
        self.advance(index, copies, block, advance)
    }

    fn advance(
        &mut self,
        index: usize,
        copies: &mut [M],
        mut block: impl FnMut(M::Hidden, &M::Context) -> Result<M::Hidden, TrainError>,
        advance: Advance<M>,
    ) -> Result<(), TrainError> {
        let Some((first, others)) = self.0.split_first_mut() else {
            return Ok(());
        };
        // What ends the work of one device ends that of all.
        let stop = Stop::default();
        scope(|scope| {
            let others = others.iter_mut().zip(copies);
            let others = others.map(|(shard, copy)| {
                let stop = &stop;
                scope.spawn(move || {
                    stop.unless_done(|| {
                        catch_ops(|| {
                            advance(shard, &mut |hidden, context| {
                                stop.check()?;
                                let output = copy.run_block(index, hidden, context);
                                output.map_err(TrainError::Model)
                            })
                        })
                    })
                })
            });
            let others: Vec<_> = others.collect();
            let mut results = vec![stop.unless_done(|| {
                advance(first, &mut |hidden, context| {
                    stop.check()?;
                    block(hidden, context)
                })
            })];
            for other in others {
                let other = other.join().unwrap_or_else(|panic| resume_unwind(panic));
                results.push(other);
            }
            // Those that were only stopped say less than what stopped them.
            results.sort_by_key(|result| matches!(result, Err(TrainError::Interrupted)));
            results.into_iter().collect()
        })
    }
}

/// Whether the devices are to stop.
#[derive(Default)]
struct Stop(AtomicBool);

impl Stop {
    fn check(&self) -> Result<(), TrainError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(TrainError::Interrupted),
            false => Ok(()),
        }
    }

    /// Stops all where the work of a device fails, or panics.
    fn unless_done<R>(
        &self,
        work: impl FnOnce() -> Result<R, TrainError>,
    ) -> Result<R, TrainError> {
        struct OnDrop<'a>(&'a Stop, bool);
        impl Drop for OnDrop<'_> {
            fn drop(&mut self) {
                if !self.1 {
                    self.0.0.store(true, Ordering::Relaxed);
                }
            }
        }
        let mut guard = OnDrop(self, false);
        let result = work();
        guard.1 = result.is_ok();
        result
    }
}

/// Samples, one of each device at a time.
pub(in crate::train) struct StepSamples<'a, M: Blockwise>(Vec<Samples<'a, M>>);

impl<M: Blockwise> Iterator for StepSamples<'_, M> {
    type Item = Result<Vec<BlockSample<M>>, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let samples = self.0.iter_mut().map_while(Iterator::next);
        let samples: Result<Vec<_>, _> = samples.collect();
        match samples {
            Ok(samples) if samples.is_empty() => None,
            samples => Some(samples),
        }
    }
}
