//! The samples of a split: in memory, or in two caches on disk.

use super::disk::DiskCache;
use super::read_ahead::Record;
use super::storage::Storage;
use super::{CacheDType, FlowError};
use crate::train::launch::data_error;
use crate::train::{BlockSample, Blockwise, Flow, TrainError};
use burn::data::dataloader::{DataLoader, DataLoaderIterator};
use burn::tensor::Device;

/// Training or validation data on its way through the blocks.
pub(in crate::train) struct SampleCache<M: Blockwise> {
    device: Device,
    dtype: CacheDType,
    place: Place<M>,
}

enum Place<M: Blockwise> {
    Memory(Vec<BlockSample<M>>),
    Disk(Disk),
}

/// What the quantized blocks made, and what the original ones made.
struct Disk {
    inputs: DiskCache,
    targets: DiskCache,
}

/// Samples in their order.
pub(in crate::train) type Samples<'a, M> =
    Box<dyn Iterator<Item = Result<BlockSample<M>, TrainError>> + 'a>;

impl<M: Blockwise> SampleCache<M> {
    /// Batches at the door of the first block, where the original and the quantized input are the same. They are read one by
    /// one, and go to disk once the budget is exceeded. `seen` gets each of them.
    pub fn fill(
        model: &M,
        loader: &dyn DataLoader<M::Batch>,
        device: &Device,
        storage: &mut Storage,
        seen: &mut dyn FnMut(&M::Hidden) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let mut cache = Self {
            device: device.clone(),
            dtype: storage.dtype(),
            place: Place::Memory(Vec::new()),
        };
        let (mut batches, mut taken) = (loader.iter(), 0);
        while let Some(batch) = batches.next() {
            let batch = batch.map_err(data_error)?;
            let (hidden, context) = model.embed(batch).map_err(TrainError::Model)?;
            seen(&hidden)?;
            if let Place::Memory(samples) = &mut cache.place {
                let bytes = (2 * hidden.num_bytes()).saturating_add(context.num_bytes());
                if storage.take(bytes) {
                    taken += bytes;
                    samples.push(BlockSample {
                        input: hidden.clone(),
                        target: hidden,
                        context,
                    });
                    continue;
                }
            }
            let record = DiskCache::encode(hidden, context, cache.dtype);
            cache.push_to_disk(record, &*batches, storage)?;
            storage.give_back(std::mem::take(&mut taken));
        }
        if let Place::Disk(disk) = &mut cache.place {
            disk.inputs.shrink()?;
            disk.targets.shrink()?;
        }
        Ok(cache)
    }

    /// Appends a record on disk; what is in memory goes there first.
    fn push_to_disk(
        &mut self,
        record: Result<Vec<u8>, FlowError>,
        batches: &dyn DataLoaderIterator<M::Batch>,
        storage: &mut Storage,
    ) -> Result<(), TrainError> {
        if let Place::Memory(samples) = &mut self.place {
            let samples = std::mem::take(samples);
            let records = samples.len() + 1;
            let samples = samples.into_iter();
            let mut earlier = samples
                .map(|sample| DiskCache::encode(sample.input, sample.context, self.dtype))
                .chain([record]);
            let first = match earlier.next() {
                Some(Ok(record)) => record,
                Some(Err(error)) => return Err(nowhere(storage, error)),
                None => return Ok(()),
            };
            let mut disk = Disk::create(first.len(), expected(records, batches), storage)?;
            disk.push(Ok(first))?;
            for record in earlier {
                disk.push(record)?;
            }
            self.place = Place::Disk(disk);
            return Ok(());
        }
        match &mut self.place {
            Place::Disk(disk) => disk.push(record),
            Place::Memory(_) => Ok(()),
        }
    }

    /// Batches.
    pub fn len(&self) -> usize {
        match &self.place {
            Place::Memory(samples) => samples.len(),
            Place::Disk(disk) => disk.inputs.records(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples in their order.
    pub fn samples(&self) -> Result<Samples<'_, M>, TrainError> {
        match &self.place {
            Place::Memory(samples) => Ok(Box::new(samples.iter().cloned().map(Ok))),
            Place::Disk(disk) => {
                let records = disk.inputs.read()?.zip(disk.targets.read()?);
                Ok(Box::new(records.map(|(input, target)| {
                    let mut input = input?;
                    Ok(BlockSample {
                        input: input.hidden(&self.device)?,
                        target: target?.hidden(&self.device)?,
                        context: input.context(&self.device)?,
                    })
                })))
            }
        }
    }

    /// Takes the targets through a block.
    pub fn advance_targets(
        &mut self,
        mut block: impl FnMut(M::Hidden, &M::Context) -> Result<M::Hidden, TrainError>,
    ) -> Result<(), TrainError> {
        match &mut self.place {
            Place::Memory(samples) => samples.iter_mut().try_for_each(|sample| {
                sample.target = block(sample.target.clone(), &sample.context)?;
                Ok(())
            }),
            Place::Disk(disk) => advance::<M>(&mut disk.targets, &self.device, self.dtype, block),
        }
    }

    /// Takes the inputs through a block.
    pub fn advance_inputs(
        &mut self,
        mut block: impl FnMut(M::Hidden, &M::Context) -> Result<M::Hidden, TrainError>,
    ) -> Result<(), TrainError> {
        match &mut self.place {
            Place::Memory(samples) => samples.iter_mut().try_for_each(|sample| {
                sample.input = block(sample.input.clone(), &sample.context)?;
                Ok(())
            }),
            Place::Disk(disk) => advance::<M>(&mut disk.inputs, &self.device, self.dtype, block),
        }
    }
}

fn advance<M: Blockwise>(
    cache: &mut DiskCache,
    device: &Device,
    dtype: CacheDType,
    mut block: impl FnMut(M::Hidden, &M::Context) -> Result<M::Hidden, TrainError>,
) -> Result<(), TrainError> {
    cache.advance(|mut record: Record| {
        let context = record.context(device)?;
        let hidden = block(record.hidden(device)?, &context)?;
        DiskCache::encode(hidden, context, dtype).map_err(|error| record.error(error))
    })
}

impl Disk {
    /// Both caches, empty, once there is room for them.
    fn create(first: usize, records: usize, storage: &mut Storage) -> Result<Self, TrainError> {
        let directory = storage.directory()?;
        let bytes = (2 * first as u64).saturating_mul(records as u64);
        directory.check_room(bytes)?;
        Ok(Self {
            inputs: DiskCache::create(&directory, first, records)?,
            targets: DiskCache::create(&directory, first, records)?,
        })
    }

    /// Appends a record to both.
    fn push(&mut self, record: Result<Vec<u8>, FlowError>) -> Result<(), TrainError> {
        let index = self.inputs.records();
        let record = record.map_err(|error| self.inputs.error(index, error))?;
        self.inputs.push(record.clone())?;
        self.targets.push(record)
    }
}

/// How many batches there will be, as far as the loader says after that many: its items are not batches. What comes is counted
/// all the same; this is only for the room to be there from the start.
fn expected<T>(batches: usize, loader: &dyn DataLoaderIterator<T>) -> usize {
    let progress = loader.progress();
    let (done, total) = (progress.items_processed, progress.items_total);
    match done {
        0 => batches,
        done => batches.max(batches.saturating_mul(total).div_ceil(done)),
    }
}

/// An error of a value that no file is there for yet.
fn nowhere(storage: &Storage, error: FlowError) -> TrainError {
    TrainError::Cache {
        path: storage.path(),
        message: format!("record 0: {error}"),
    }
}
