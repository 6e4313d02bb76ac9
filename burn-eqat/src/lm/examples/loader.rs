//! Batches of texts, for Burn's training.

use super::grouped::{by_length, shuffled};
use super::{Example, Examples};
use crate::lm::TokenBatch;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

impl Examples {
    /// A loader of these texts, with texts of about one length in a batch. Shorter ones are padded behind their end, where no
    /// token of a causal model sees the padding, and the loss is over the answers only, if the
    /// model's loss follows [`TokenBatch::answers`]. With a seed they are shuffled again for each epoch.
    pub fn loader(
        &self,
        batch_size: usize,
        shuffle: Option<u64>,
        device: &Device,
    ) -> Arc<dyn DataLoader<TokenBatch>> {
        Arc::new(Loader {
            items: self.items.clone(),
            batch_size: batch_size.max(1),
            shuffle,
            epoch: AtomicU64::new(0),
            device: device.clone(),
        })
    }
}

struct Loader {
    items: Arc<Vec<Example>>,
    batch_size: usize,
    /// The seed.
    shuffle: Option<u64>,
    /// How often it was read.
    epoch: AtomicU64,
    device: Device,
}

impl DataLoader<TokenBatch> for Loader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TokenBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let lengths: Vec<usize> = self.items.iter().map(|item| item.tokens.len()).collect();
        let batches = match self.shuffle {
            Some(seed) => shuffled(&lengths, self.batch_size, seed, epoch),
            None => by_length(&lengths, self.batch_size),
        };
        Box::new(Iter {
            loader: self,
            batches: batches.into_iter(),
            done: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.items.len()
    }

    /// It begins with the first epoch again.
    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
        let items = Examples {
            items: self.items.clone(),
        };
        items.loader(self.batch_size, self.shuffle, device)
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TokenBatch>> {
        let items = Examples::new(self.items[start..end].to_vec());
        items.loader(self.batch_size, self.shuffle, &self.device)
    }
}

struct Iter<'a> {
    loader: &'a Loader,
    batches: std::vec::IntoIter<Vec<usize>>,
    done: usize,
}

impl Iterator for Iter<'_> {
    type Item = Result<TokenBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        self.done += batch.len();
        let items: Vec<&Example> = batch
            .into_iter()
            .map(|index| &self.loader.items[index])
            .collect();
        Some(Ok(padded(&items, &self.loader.device)))
    }
}

impl DataLoaderIterator<TokenBatch> for Iter<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.loader.items.len(), None)
    }
}

/// A batch as long as the longest of these texts.
fn padded(items: &[&Example], device: &Device) -> TokenBatch {
    // Any token will do: nothing is predicted from it.
    const PADDING: i32 = 0;
    let longest = items.iter().map(|item| item.tokens.len()).max();
    let longest = longest.unwrap_or(0);
    let mut tokens = Vec::with_capacity(items.len() * longest);
    let mut answers = Vec::new();
    for item in items {
        let first = tokens.len();
        answers.extend(item.answers.iter().map(|at| (first + at) as i32));
        tokens.extend_from_slice(&item.tokens);
        tokens.resize(first + longest, PADDING);
    }
    let places = answers.len();
    TokenBatch {
        answers: Some(Tensor::from_data(
            TensorData::new(answers, [places]),
            device,
        )),
        ..TokenBatch::new(tokens, longest, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Examples {
        let items = (2..12).map(|len| {
            let tokens: Vec<i32> = (0..len).map(|i| 100 * len + i).collect();
            Example::new(tokens, (len as usize / 2..len as usize).collect())
        });
        items.flatten().collect()
    }

    /// The tokens that a batch has to predict.
    fn predicted(batch: &TokenBatch) -> Vec<i32> {
        let tokens: Vec<i32> = batch.tokens.to_data().iter::<i32>().collect();
        let answers = batch.answers.as_ref().unwrap().to_data();
        answers
            .iter::<i64>()
            .map(|at| tokens[at as usize])
            .collect()
    }

    #[test]
    fn answers_keep_their_places_in_padded_batches() {
        let (examples, device) = (examples(), Device::flex());
        let mut expected: Vec<i32> = Vec::new();
        for example in examples.iter() {
            expected.extend(example.answers().iter().map(|at| example.tokens()[*at]));
        }
        assert_eq!(expected.len(), examples.answers());
        for shuffle in [None, Some(4)] {
            let loader = examples.loader(3, shuffle, &device);
            let batches: Vec<TokenBatch> = loader.iter().map(Result::unwrap).collect();
            let rows: Vec<usize> = batches.iter().map(|batch| batch.tokens.dims()[0]).collect();
            assert_eq!((rows.iter().sum::<usize>(), rows.len()), (10, 4));
            let mut found = batches.iter().flat_map(predicted).collect::<Vec<_>>();
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn copies_and_epochs_have_the_order_of_their_number() {
        let device = Device::flex();
        let first = |loader: &Arc<dyn DataLoader<TokenBatch>>| {
            let batches: Vec<_> = loader
                .iter()
                .map(|batch| predicted(&batch.unwrap()))
                .collect();
            assert_eq!(batches.len(), 5);
            batches
        };
        let loader = examples().loader(2, Some(7), &device);
        let epochs = [first(&loader), first(&loader)];
        assert_ne!(epochs[0], epochs[1]);
        let copy = loader.to_device(&device);
        assert_eq!([first(&copy), first(&copy)], epochs);
        let mut iterator = copy.iter();
        iterator.next();
        assert_eq!(iterator.progress().items_processed, 2);
        assert_eq!(loader.slice(2, 7).num_items(), 5);
    }
}
