use super::{TokenBatch, TokenWindows};
use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::tensor::Device;
use std::sync::Arc;

struct WindowBatcher;

impl Batcher<Vec<i32>, TokenBatch> for WindowBatcher {
    fn batch(&self, windows: Vec<Vec<i32>>, device: &Device) -> TokenBatch {
        let seq_len = windows.first().map_or(1, Vec::len);
        TokenBatch::new(windows.concat(), seq_len, device)
    }
}

impl TokenWindows {
    /// A loader of these windows for Burn's training. With a seed they are shuffled again for each epoch.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use burn_eqat::lm::TokenWindows;
    ///
    /// let windows = TokenWindows::new((0..400).collect(), 8);
    /// let loader = windows.loader(16, Some(42), &Device::flex());
    /// let batches: Vec<_> = loader.iter().collect::<Result<_, _>>()?;
    /// assert_eq!((loader.num_items(), batches.len()), (50, 4));
    /// assert_eq!(batches[0].tokens.dims(), [16, 8]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn loader(
        &self,
        batch_size: usize,
        shuffle: Option<u64>,
        device: &Device,
    ) -> Arc<dyn DataLoader<TokenBatch>> {
        let items = self.iter().map(<[i32]>::to_vec).collect();
        let mut builder = DataLoaderBuilder::new(WindowBatcher)
            .batch_size(batch_size.clamp(1, self.len().max(1)))
            .set_device(device.clone());
        if let Some(seed) = shuffle {
            builder = builder.shuffle(seed);
        }
        builder.build(InMemDataset::new(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_tokens(loader: &Arc<dyn DataLoader<TokenBatch>>) -> Vec<i32> {
        let batches = loader.iter().map(|batch| batch.unwrap().tokens);
        batches
            .flat_map(|tokens| {
                tokens
                    .slice_dim(1, 0..1)
                    .into_data()
                    .iter::<i32>()
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn every_window_comes_once_an_epoch() {
        let device = Device::flex();
        let windows = TokenWindows::new((0..21).collect(), 3);
        let plain = windows.loader(2, None, &device);
        assert_eq!(first_tokens(&plain), [0, 3, 6, 9, 12, 15, 18]);
        let shuffled = windows.loader(2, Some(1), &device);
        let (first, second) = (first_tokens(&shuffled), first_tokens(&shuffled));
        assert_ne!(first, second);
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, [0, 3, 6, 9, 12, 15, 18]);
        }
    }
}
