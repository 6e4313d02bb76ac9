use super::World;
use crate::conversation::Conversations;
use crate::model::{Example, MediaBatch};
use crate::processor::Processor;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::Device;
use std::sync::Arc;

/// Batches of conversations.
pub type Loader = Arc<dyn DataLoader<MediaBatch>>;

/// Conversations about samples: all questions of a sample, one after the other. Each depends only on the seed and its index.
#[derive(Clone, Debug)]
pub struct Dialogues {
    /// What they are about.
    pub world: World,
    /// The seed of the samples.
    pub seed: u64,
    /// How many there are.
    pub count: usize,
    /// How the model writes conversations.
    pub conversations: Conversations,
    /// How the model's inputs are prepared.
    pub processor: Processor,
}

impl Dataset<Example> for Dialogues {
    fn get(&self, index: usize) -> Result<Example, DatasetError> {
        let sample = self.world.sample(self.seed, index);
        let input = sample.made.prepare(&self.processor);
        let input = input.map_err(DatasetError::new)?;
        let turns: Vec<(&str, &str)> = sample
            .turns
            .iter()
            .map(|turn| (turn.question.as_str(), turn.answer.as_str()))
            .collect();
        let example = self.conversations.example(input, &turns);
        example.map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.count
    }
}

/// Puts conversations into tensors.
#[derive(Clone, Copy, Debug)]
pub struct DialogueBatcher;

impl Batcher<Example, MediaBatch> for DialogueBatcher {
    fn batch(&self, examples: Vec<Example>, device: &Device) -> MediaBatch {
        // Burn's batchers give no error back. Samples of one world are of one shape, and have answers.
        MediaBatch::new(&examples, device).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A Burn data loader of conversations.
pub fn loader<D: Dataset<Example> + 'static>(
    dialogues: D,
    batch_size: usize,
    device: &Device,
) -> Loader {
    DataLoaderBuilder::new(DialogueBatcher)
        .batch_size(batch_size)
        .set_device(device.clone())
        .build(dialogues)
}

impl Dialogues {
    /// The first of these conversations, or more of the same seed.
    pub fn first(&self, count: usize) -> Self {
        Self {
            count,
            ..self.clone()
        }
    }
}
