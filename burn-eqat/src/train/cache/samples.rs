//! The samples of a split: in memory, or in two caches on disk.

use super::disk::DiskCache;
use super::read_ahead::Record;
use super::storage::Storage;
use super::{CacheDType, FlowError};
use crate::train::devices::flow_to_device;
use crate::train::{BlockSample, Blockwise, Flow, TrainError};
use burn::data::dataloader::DataLoaderIterator;
use burn::tensor::Device;

/// Training or validation data of a device on its way through the blocks.
pub(super) struct SampleCache<M: Blockwise> {
    device: Device,
    dtype: CacheDType,
    place: Place<M>,
    /// Bytes of the budget.
    taken: u64,
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
pub(super) type Samples<'a, M> = Box<dyn Iterator<Item = Result<BlockSample<M>, TrainError>> + 'a>;

impl<M: Blockwise> SampleCache<M> {
    /// No samples yet.
    pub fn new(device: &Device, storage: &Storage) -> Self {
        Self {
            device: device.clone(),
            dtype: storage.dtype(),
            place: Place::Memory(Vec::new()),
            taken: 0,
        }
    }

    /// Appends what goes into the first block, where the original and the quantized input are the same. All samples go to disk
    /// once the budget is exceeded.
    pub fn push(
        &mut self,
        hidden: M::Hidden,
        context: M::Context,
        batches: &dyn DataLoaderIterator<M::Batch>,
        storage: &mut Storage,
    ) -> Result<(), TrainError> {
        if let Place::Memory(samples) = &mut self.place {
            let bytes = (2 * hidden.num_bytes()).saturating_add(context.num_bytes());
            if storage.take(bytes) {
                self.taken += bytes;
                let hidden = flow_to_device(hidden, &self.device);
                samples.push(BlockSample {
                    input: hidden.clone(),
                    target: hidden,
                    context: flow_to_device(context, &self.device),
                });
                return Ok(());
            }
        }
        let record = DiskCache::encode(hidden, context, self.dtype);
        self.push_to_disk(record, batches, storage)?;
        storage.give_back(std::mem::take(&mut self.taken));
        Ok(())
    }

    /// Gives back the room that was made for more samples than came.
    pub fn shrink(&mut self) -> Result<(), TrainError> {
        if let Place::Disk(disk) = &mut self.place {
            disk.inputs.shrink()?;
            disk.targets.shrink()?;
        }
        Ok(())
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

/// How many batches of a device there will be, as far as the loader says after that many: its items are not batches. What comes
/// is counted all the same; this is only for the room to be there from the start.
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
