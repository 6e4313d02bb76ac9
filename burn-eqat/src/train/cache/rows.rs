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
    let (mut parts, mut more) = (FlowParts::default(), FlowParts::default());
    hidden.take_apart(&mut parts)?;
    context.take_apart(&mut more)?;
    let Some(rows) = parts.rows() else {
        return Ok(None);
    };
    let mut hashers = vec![DefaultHasher::new(); rows];
    // What all samples share is a part of each key.
    parts.each_row(rows, &mut |row, bytes| hashers[row].write(bytes));
    more.each_row(rows, &mut |row, bytes| hashers[row].write(bytes));
    Ok(Some(hashers.iter().map(DefaultHasher::finish).collect()))
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

    /// Adds the rows of a hidden state that are not there yet. Those that take more room than the first are left out.
    pub fn push<H: Flow>(&mut self, keys: &[u64], hidden: H) -> Result<(), TrainError> {
        let path = self.storage.path();
        let failed = |error: FlowError| TrainError::Cache {
            path: path.clone(),
            message: error.to_string(),
        };
        let mut parts = FlowParts::default();
        hidden.take_apart(&mut parts).map_err(failed)?;
        let rows = parts.into_rows().filter(|rows| rows.len() == keys.len());
        let other = "the blocks made another number of rows than went into them";
        for (key, row) in keys
            .iter()
            .zip(rows.ok_or_else(|| failed(FlowError::new(other)))?)
        {
            if self.places.contains_key(key) {
                continue;
            }
            let mut record = vec![0; HEADER];
            encode(row, Some(self.storage.dtype()), &mut record).map_err(failed)?;
            let fits = |file: &RecordFile| record.len() <= file.size();
            if !self.file.as_ref().is_none_or(fits) {
                continue;
            }
            let index = self.places.len();
            self.file(record.len(), index)?.write(index, 0, record)?;
            self.places.insert(*key, index);
        }
        Ok(())
    }

    /// Gives back the room that was made for more rows than came.
    pub fn shrink(&mut self) -> Result<(), TrainError> {
        match &mut self.file {
            Some(file) if file.records() > self.places.len() => file.set_records(self.places.len()),
            _ => Ok(()),
        }
    }

    /// The file, with room for record `index`; records are as large as the first.
    fn file(&mut self, first: usize, index: usize) -> Result<&mut RecordFile, TrainError> {
        let directory = self.storage.directory()?;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let records = self.expected.max(1);
                directory.check_room((first as u64).saturating_mul(records as u64))?;
                RecordFile::create(&directory, first, records)?
            }
        };
        if index >= file.records() {
            let more = index / 2 + 1;
            directory.check_room((file.size() as u64).saturating_mul(more as u64))?;
            file.set_records(index + more)?;
        }
        Ok(self.file.insert(file))
    }

    /// The hidden state of these rows; `None` where one of them is not there, or they are of different shapes.
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
        let Some(mut parts) = FlowParts::from_rows(rows) else {
            return Ok(None);
        };
        let hidden = H::put_together(&mut parts, device);
        let hidden = hidden.and_then(|hidden| parts.finish().map(|()| hidden));
        hidden.map(Some).map_err(|error| file.error(0, error))
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
        cache.shrink().unwrap();
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

    /// As of samples that are padded to the longest of their batch.
    #[test]
    fn rows_of_another_length_are_left_out() {
        let device = Device::flex();
        let (_dir, mut cache) = cache(CacheDType::F32);
        let state = |length: usize| Tensor::<3>::ones([2, length, 3], &device) * length as f64;
        let keys = |length| row_keys(state(length), ()).unwrap().unwrap();
        for length in [4, 3, 5] {
            cache.push(&keys(length), state(length)).unwrap();
        }
        let found = |keys: &[u64]| cache.get::<Tensor<3>>(keys, &device).unwrap();
        assert!(found(&keys(4)).is_some() && found(&keys(3)).is_some());
        assert!(found(&keys(5)).is_none());
        let mixed = [keys(4)[0], keys(3)[0]];
        assert!(found(&mixed).is_none());
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
        // A mask, and a table that all share.
        let both = |last: f32, value: f32| {
            let table = Tensor::<2>::from_data([[value, 2.0]], &device);
            row_keys(state(0..3), (masks(last).unwrap(), table))
                .unwrap()
                .unwrap()
        };
        assert_eq!(both(0.0, 1.0)[..2], both(1.0, 1.0)[..2]);
        assert!(both(0.0, 1.0)[0] != both(0.0, 3.0)[0]);
        // A table alone.
        let table = |value: f32| Some(Tensor::from_data([[value, 2.0]], &device));
        let (one, other) = (keys(table(1.0)), keys(table(3.0)));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other));
        // No samples in the first dimension.
        let apart = (state(0..3).0, Some(state(0..2).1.unwrap()));
        assert_eq!(row_keys(apart, ()).unwrap(), None);
    }
}
