//! Hidden states of single samples in a file, found by what they were made from.

use super::CacheConfig;
use super::parts::{FlowError, FlowParts};
use super::record::{decode, encode};
use super::record_file::{HEADER, RecordFile};
use super::storage::Storage;
use crate::train::{Flow, TrainError};
use burn::tensor::Device;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

/// Rows of hidden states, each under a key. All of them are of one shape.
pub(in crate::train) struct RowCache {
    storage: Storage,
    /// How many rows are expected.
    expected: usize,
    file: Option<RecordFile>,
    places: HashMap<u64, usize>,
}

/// Names the samples of a batch by what goes into the first block: the first dimension of every tensor of `hidden` counts them. `None`
/// where it does not.
pub(in crate::train) fn row_keys<H: Flow, C: Flow>(
    hidden: H,
    context: C,
) -> Result<Option<Vec<u64>>, FlowError> {
    let mut parts = FlowParts::default();
    hidden.take_apart(&mut parts)?;
    let Some(rows) = parts.into_rows() else {
        return Ok(None);
    };
    let mut shared = FlowParts::default();
    context.take_apart(&mut shared)?;
    // What all samples share is a part of each key; what each has of its own, too, where it can be told apart.
    let (own, shared) = match shared.clone().into_rows() {
        Some(own) if own.len() == rows.len() => (own, FlowParts::default()),
        _ => (vec![FlowParts::default(); rows.len()], shared),
    };
    let keys = rows.into_iter().zip(own).map(|(row, own)| {
        let mut hasher = DefaultHasher::new();
        for parts in [&row, &own, &shared] {
            parts.each_bytes(&mut |bytes| hasher.write(bytes));
        }
        hasher.finish()
    });
    Ok(Some(keys.collect()))
}

impl RowCache {
    /// No rows, with room for so many where they come: in the directory and in the type of a configuration.
    pub fn new(config: &CacheConfig, expected: usize) -> Self {
        Self {
            storage: Storage::new(config),
            expected,
            file: None,
            places: HashMap::new(),
        }
    }

    /// Whether all of these are there.
    pub fn has(&self, keys: &[u64]) -> bool {
        keys.iter().all(|key| self.places.contains_key(key))
    }

    /// Adds the rows of a hidden state that are not there yet.
    pub fn push<H: Flow>(&mut self, keys: &[u64], hidden: H) -> Result<(), TrainError> {
        let mut parts = FlowParts::default();
        let path = self.storage.path();
        let failed = |error: FlowError| TrainError::Cache {
            path,
            message: error.to_string(),
        };
        let rows = match hidden.take_apart(&mut parts) {
            Ok(()) => parts.into_rows(),
            Err(error) => return Err(failed(error)),
        };
        let Some(rows) = rows.filter(|rows| rows.len() == keys.len()) else {
            return Err(failed(FlowError::new(
                "the blocks made another number of rows than went into them",
            )));
        };
        for (key, row) in keys.iter().zip(rows) {
            if self.places.contains_key(key) {
                continue;
            }
            let mut record = vec![0; HEADER];
            if let Err(error) = encode(row, Some(self.storage.dtype()), &mut record) {
                return Err(failed(error));
            }
            let index = self.places.len();
            self.file(record.len(), index)?.write(index, 0, record)?;
            self.places.insert(*key, index);
        }
        Ok(())
    }

    /// The file, with room for record `index` of this size.
    fn file(&mut self, size: usize, index: usize) -> Result<&mut RecordFile, TrainError> {
        let directory = self.storage.directory()?;
        let file = match self.file.take() {
            None => {
                let records = self.expected.max(1);
                directory.check_room((size as u64).saturating_mul(records as u64))?;
                RecordFile::create(&directory, size, records)?
            }
            Some(file) if size > file.size() => {
                let message = format!(
                    "a row has {size} bytes, expected {} as the first",
                    file.size()
                );
                return Err(file.error(index, message));
            }
            Some(mut file) => {
                if index >= file.records() {
                    let more = index / 2 + 1;
                    directory.check_room((file.size() as u64).saturating_mul(more as u64))?;
                    file.set_records(index + more)?;
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// The hidden state of these rows; `None` where one of them is not there.
    pub fn get<H: Flow>(&self, keys: &[u64], device: &Device) -> Result<Option<H>, TrainError> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(&index) = self.places.get(key) else {
                return Ok(None);
            };
            let record = file.read(index, 0)?;
            let row = decode(&mut &record[HEADER..]);
            rows.push(row.map_err(|error| file.error(index, error))?);
        }
        let together = FlowParts::from_rows(rows).and_then(|mut parts| {
            let hidden = H::put_together(&mut parts, device)?;
            parts.finish()?;
            Ok(hidden)
        });
        together.map(Some).map_err(|error| file.error(0, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::CacheDType;
    use burn::tensor::{Int, Tensor};

    type State = (Tensor<3>, Option<Tensor<2>>);

    fn state(rows: std::ops::Range<usize>) -> State {
        let device = Device::flex();
        let count = rows.len();
        let numbers = Tensor::<1, Int>::arange(6 * rows.start as i64..6 * rows.end as i64, &device);
        let numbers = numbers.float() / 3.0;
        let last = numbers.clone().reshape([count, 6]).narrow(1, 0, 2);
        (numbers.reshape([count, 2, 3]), Some(last))
    }

    fn numbers(state: State) -> Vec<f32> {
        let both = [state.0.into_data(), state.1.unwrap().into_data()];
        both.iter().flat_map(|data| data.iter::<f32>()).collect()
    }

    fn cache(dtype: CacheDType) -> (tempfile::TempDir, RowCache) {
        let dir = tempfile::tempdir().unwrap();
        let config = CacheConfig::new().with_dtype(dtype);
        let config = config.with_dir(Some(dir.path().to_path_buf()));
        (dir, RowCache::new(&config, 2))
    }

    #[test]
    fn rows_come_back_in_any_order_and_any_company() {
        let device = Device::flex();
        let (_dir, mut cache) = cache(CacheDType::F32);
        let keys = |rows| row_keys(state(rows), ()).unwrap().unwrap();
        // More than there was room for, one of them twice.
        for rows in [0..3, 2..7] {
            cache.push(&keys(rows.clone()), state(rows)).unwrap();
        }
        let asked = [keys(5..6), keys(1..3)].concat();
        assert!(cache.has(&asked) && !cache.has(&keys(6..8)));
        let found: State = cache.get(&asked, &device).unwrap().unwrap();
        let expected = [state(5..6), state(1..3)];
        let [first, last] = [0, 1].map(|half| {
            let both = expected.clone().map(|state| match half {
                0 => state.0.flatten::<2>(1, 2),
                _ => state.1.unwrap(),
            });
            Tensor::cat(both.to_vec(), 0)
        });
        let expected = (first.reshape([3, 2, 3]), Some(last));
        assert_eq!(numbers(found), numbers(expected));
        let missing = cache.get::<State>(&keys(6..8), &device).unwrap();
        assert!(missing.is_none());
    }

    #[test]
    fn numbers_are_rounded_to_the_type() {
        let (_dir, mut cache) = cache(CacheDType::Bf16);
        let keys = row_keys(state(0..4), ()).unwrap().unwrap();
        cache.push(&keys, state(0..4)).unwrap();
        let found: State = cache.get(&keys, &Device::flex()).unwrap().unwrap();
        for (found, exact) in numbers(found).into_iter().zip(numbers(state(0..4))) {
            assert_eq!(found, burn::tensor::bf16::from_f32(exact).to_f32());
        }
    }

    #[test]
    fn keys_tell_samples_apart_by_all_that_goes_into_the_first_block() {
        let device = Device::flex();
        let keys = |context: Option<Tensor<2>>| row_keys(state(0..3), context).unwrap().unwrap();
        let plain = keys(None);
        assert_eq!(plain, keys(None));
        assert!(plain[0] != plain[1] && plain[1] != plain[2]);
        // A mask: of each sample its own row.
        let masks = |last: f32| {
            Some(Tensor::from_data(
                [[1.0, 1.0], [1.0, 0.0], [1.0, last]],
                &device,
            ))
        };
        let (one, other) = (keys(masks(0.0)), keys(masks(1.0)));
        assert_eq!(one[..2], other[..2]);
        assert!(one[2] != other[2] && one[0] != plain[0]);
        // A table that all share.
        let table = |value: f32| Some(Tensor::from_data([[value, 2.0]], &device));
        let (one, other) = (keys(table(1.0)), keys(table(3.0)));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other));
        // No samples in the first dimension.
        let apart = (state(0..3).0, Some(state(0..2).1.unwrap()));
        assert_eq!(row_keys(apart, ()).unwrap(), None);
    }
}
