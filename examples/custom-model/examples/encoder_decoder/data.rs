//! Random inputs, and what the original model makes of them.

use crate::model::{EncoderDecoder, WIDTH};
use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::tensor::{Device, Distribution, Tensor};
use std::sync::Arc;

/// What goes into the encoder and the decoder, and what should come out: `[batch, sequence, WIDTH]`.
#[derive(Clone, Debug)]
pub struct Pair {
    pub source: Tensor<3>,
    pub target: Tensor<3>,
    pub wanted: Tensor<3>,
}

/// Puts pairs of one into batches.
struct Pairs;

impl Batcher<Pair, Pair> for Pairs {
    fn batch(&self, items: Vec<Pair>, device: &Device) -> Pair {
        let stack = |part: fn(&Pair) -> &Tensor<3>| {
            let parts = items.iter().map(|pair| part(pair).clone());
            Tensor::cat(parts.collect(), 0).to_device(device)
        };
        Pair {
            source: stack(|pair| &pair.source),
            target: stack(|pair| &pair.target),
            wanted: stack(|pair| &pair.wanted),
        }
    }
}

/// A loader of so many pairs.
pub fn pairs(model: &EncoderDecoder, count: usize, device: &Device) -> Arc<dyn DataLoader<Pair>> {
    let pair = |_| {
        let random =
            |length| Tensor::random([1, length, WIDTH], Distribution::Normal(0.0, 1.0), device);
        let (source, target) = (random(9), random(5));
        let wanted = model.forward(source.clone(), target.clone());
        Pair {
            source,
            target,
            wanted,
        }
    };
    DataLoaderBuilder::new(Pairs)
        .batch_size(8)
        .set_device(device.clone())
        .build(InMemDataset::new((0..count).map(pair).collect()))
}
