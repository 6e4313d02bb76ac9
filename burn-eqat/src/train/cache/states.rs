//! Hidden states of one kind: in memory, or in a cache on disk.

use super::disk::DiskCache;
use super::storage::Storage;
use super::{CacheConfig, CacheDType};
use crate::train::{Blockwise, Flow, TrainError};
use burn::tensor::Device;

/// The hidden states of some batches on their way through the blocks of a model that is not trained. On disk they are not
/// rounded.
pub(crate) struct StateCache<M: Blockwise> {
    device: Device,
    storage: Storage,
    place: Place<M>,
}

enum Place<M: Blockwise> {
    Memory(Vec<(M::Hidden, M::Context)>),
    Disk(DiskCache),
}

impl<M: Blockwise> StateCache<M> {
    /// An empty one, with the budget and the directory of a configuration.
    pub fn new(config: &CacheConfig, device: &Device) -> Self {
        Self {
            device: device.clone(),
            storage: Storage::new(config),
            place: Place::Memory(Vec::new()),
        }
    }

    /// Adds the states of a batch, of about `expected` in all.
    pub fn push(
        &mut self,
        hidden: M::Hidden,
        context: M::Context,
        expected: usize,
    ) -> Result<(), TrainError> {
        if let Place::Memory(states) = &mut self.place {
            let bytes = hidden.num_bytes().saturating_add(context.num_bytes());
            if self.storage.take(bytes) {
                states.push((hidden, context));
                return Ok(());
            }
            let states = std::mem::take(states);
            self.move_to_disk(states, (hidden, context), expected)
        } else {
            self.push_to_disk(hidden, context)
        }
    }

    /// Brings what is in memory to disk, and one more.
    fn move_to_disk(
        &mut self,
        states: Vec<(M::Hidden, M::Context)>,
        last: (M::Hidden, M::Context),
        expected: usize,
    ) -> Result<(), TrainError> {
        let expected = expected.max(states.len() + 1);
        for (hidden, context) in states.into_iter().chain([last]) {
            if let Place::Memory(_) = &self.place {
                let record = DiskCache::encode(hidden.clone(), context.clone(), CacheDType::F32);
                let record = record.map_err(|error| TrainError::Cache {
                    path: self.storage.path(),
                    message: format!("record 0: {error}"),
                })?;
                let directory = self.storage.directory()?;
                directory.check_room((record.len() as u64).saturating_mul(expected as u64))?;
                let disk = DiskCache::create(&directory, record.len(), expected)?;
                self.place = Place::Disk(disk);
            }
            self.push_to_disk(hidden, context)?;
        }
        Ok(())
    }

    fn push_to_disk(&mut self, hidden: M::Hidden, context: M::Context) -> Result<(), TrainError> {
        let Place::Disk(disk) = &mut self.place else {
            return Ok(());
        };
        let record = DiskCache::encode(hidden, context, CacheDType::F32);
        let record = record.map_err(|error| disk.error(disk.records(), error))?;
        disk.push(record)
    }

    /// Takes the states through a block.
    pub fn advance(
        &mut self,
        mut block: impl FnMut(M::Hidden, &M::Context) -> Result<M::Hidden, TrainError>,
    ) -> Result<(), TrainError> {
        match &mut self.place {
            Place::Memory(states) => states.iter_mut().try_for_each(|(hidden, context)| {
                *hidden = block(hidden.clone(), context)?;
                Ok(())
            }),
            Place::Disk(disk) => disk.advance(|mut record| {
                let context: M::Context = record.context(&self.device)?;
                let hidden = block(record.hidden(&self.device)?, &context)?;
                let encoded = DiskCache::encode(hidden, context, CacheDType::F32);
                encoded.map_err(|error| record.error(error))
            }),
        }
    }

    /// Gives the states out in their order.
    pub fn for_each(
        self,
        mut take: impl FnMut(M::Hidden, &M::Context) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        match self.place {
            Place::Memory(states) => states
                .into_iter()
                .try_for_each(|(hidden, context)| take(hidden, &context)),
            Place::Disk(disk) => {
                for record in disk.read()? {
                    let mut record = record?;
                    let context = record.context(&self.device)?;
                    take(record.hidden(&self.device)?, &context)?;
                }
                Ok(())
            }
        }
    }
}
