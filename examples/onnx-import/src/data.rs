//! Data sets that are drawn on request, and their batches.

use crate::random::Random;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

/// What a model is to learn.
pub trait Task: Copy + Debug + Send + Sync + 'static {
    /// The numbers of an input.
    type Number: Clone + Debug + Send + Sync + 'static;
    /// The inputs of a model.
    type Inputs: Clone + Debug + Send + 'static;

    /// An input and its class.
    fn draw(random: Random) -> (Vec<Self::Number>, usize);

    /// The numbers of `count` inputs as a tensor.
    fn inputs(numbers: Vec<Self::Number>, count: usize, device: &Device) -> Self::Inputs;
}

/// Examples of a task. Each depends only on the seed and its index, so sets of different seeds share none.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<T> {
    task: PhantomData<T>,
    seed: u64,
    count: usize,
}

impl<T: Task> Dataset<(Vec<T::Number>, usize)> for Drawn<T> {
    fn get(&self, index: usize) -> Result<(Vec<T::Number>, usize), DatasetError> {
        Ok(T::draw(Random::new(self.seed, index)))
    }

    fn len(&self) -> usize {
        self.count
    }
}

impl<T: Task> Drawn<T> {
    /// A set of so many examples.
    pub fn new(seed: u64, count: usize) -> Self {
        Self {
            task: PhantomData,
            seed,
            count,
        }
    }

    /// Batches of these examples.
    pub fn loader(self, batch_size: usize, device: &Device) -> Loader<T::Inputs> {
        DataLoaderBuilder::new(Stack::<T>(PhantomData))
            .batch_size(batch_size)
            .set_device(device.clone())
            .build(self)
    }
}

/// A batch for a step.
#[derive(Clone, Debug)]
pub struct Batch<I> {
    /// The inputs.
    pub inputs: I,
    /// The class of each, `[batch]`.
    pub classes: Tensor<1, Int>,
}

/// Batches.
pub type Loader<I> = Arc<dyn DataLoader<Batch<I>>>;

/// Puts examples into tensors.
#[derive(Clone, Debug)]
struct Stack<T>(PhantomData<T>);

impl<T: Task> Batcher<(Vec<T::Number>, usize), Batch<T::Inputs>> for Stack<T> {
    fn batch(&self, items: Vec<(Vec<T::Number>, usize)>, device: &Device) -> Batch<T::Inputs> {
        let count = items.len();
        let (numbers, classes): (Vec<_>, Vec<i32>) = items
            .into_iter()
            .map(|(numbers, class)| (numbers, class as i32))
            .unzip();
        Batch {
            inputs: T::inputs(numbers.concat(), count, device),
            classes: Tensor::from_data(TensorData::new(classes, [count]), device),
        }
    }
}
