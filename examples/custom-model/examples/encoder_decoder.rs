//! An encoder-decoder with cross-attention: read from a PyTorch file, quantized by training, saved and
//! loaded again.
//!
//! Its blocks have different types, and every decoder block gets the encoder's output. In training this is the
//! output of the quantized encoder; for the targets it is that of the full-precision encoder.

use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::store::{ModuleSnapshot, PytorchStore};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Distribution, Tensor};
use burn::train::{InferenceStep, RegressionOutput, TrainOutput, TrainStep};
use burn_eqat::train::{Blockwise, Hidden, ModelError};
use burn_eqat::{EfficientQatConfig, QuantLinear, QuantLinearConfig, Quantize, Stage, Weights};
use std::error::Error;
use std::sync::Arc;

const WIDTH: usize = 32;

#[derive(Module, Debug)]
struct EncoderBlock {
    norm: LayerNorm,
    up: QuantLinear,
    down: QuantLinear,
}

#[derive(Module, Debug)]
struct DecoderBlock {
    norm: LayerNorm,
    cross: MultiHeadAttention,
    up: QuantLinear,
    down: QuantLinear,
}

#[derive(Module, Debug)]
struct EncoderDecoder {
    encoder: Vec<EncoderBlock>,
    decoder: Vec<DecoderBlock>,
    head: QuantLinear,
}

impl EncoderBlock {
    fn forward(&self, source: Tensor<3>) -> Tensor<3> {
        let h = self.norm.forward(source.clone());
        source + self.down.forward(gelu(self.up.forward(h)))
    }
}

impl DecoderBlock {
    fn forward(&self, target: Tensor<3>, source: Tensor<3>) -> Tensor<3> {
        let h = self.norm.forward(target.clone());
        let seen = self.cross.forward(MhaInput::new(h, source.clone(), source));
        let h = target + seen.context;
        h.clone() + self.down.forward(gelu(self.up.forward(h)))
    }
}

impl EncoderDecoder {
    fn new(device: &Device) -> Self {
        let linear = || QuantLinearConfig::new(WIDTH, WIDTH).init(device);
        let norm = || LayerNormConfig::new(WIDTH).init(device);
        let encoder = |_| EncoderBlock {
            norm: norm(),
            up: linear(),
            down: linear(),
        };
        let decoder = |_| DecoderBlock {
            norm: norm(),
            cross: MultiHeadAttentionConfig::new(WIDTH, 2)
                .with_dropout(0.0)
                .init(device),
            up: linear(),
            down: linear(),
        };
        Self {
            encoder: (0..2).map(encoder).collect(),
            decoder: (0..2).map(decoder).collect(),
            head: linear(),
        }
    }

    fn forward(&self, source: Tensor<3>, target: Tensor<3>) -> Tensor<3> {
        let source = self.encoder.iter().fold(source, |x, b| b.forward(x));
        let decode = |x, block: &DecoderBlock| block.forward(x, source.clone());
        self.head.forward(self.decoder.iter().fold(target, decode))
    }
}

/// The inputs of the encoder and the decoder, and the target: `[batch, sequence, WIDTH]`.
#[derive(Clone, Debug)]
struct Pair {
    source: Tensor<3>,
    target: Tensor<3>,
    wanted: Tensor<3>,
}

impl Blockwise for EncoderDecoder {
    type Batch = Pair;
    /// The current states of the encoder and the decoder.
    type Hidden = (Tensor<3>, Tensor<3>);
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        let encoder = (0..self.encoder.len()).map(|i| format!("encoder.{i}"));
        let decoder = (0..self.decoder.len()).map(|i| format!("decoder.{i}"));
        let head = std::iter::once("head".to_string());
        encoder.chain(decoder).chain(head).collect()
    }

    fn embed(&self, batch: Pair) -> Result<(Self::Hidden, ()), ModelError> {
        Ok(((batch.source, batch.target), ()))
    }

    fn run_block(
        &self,
        index: usize,
        (source, target): Self::Hidden,
        _: &(),
    ) -> Result<Self::Hidden, ModelError> {
        if let Some(block) = self.encoder.get(index) {
            return Ok((block.forward(source), target));
        }
        let target = match self.decoder.get(index - self.encoder.len()) {
            Some(block) => block.forward(target, source.clone()),
            None => self.head.forward(target),
        };
        Ok((source, target))
    }

    /// Compares the half of the hidden state that the block computes.
    fn reconstruction_error(
        &self,
        index: usize,
        output: Self::Hidden,
        target: Self::Hidden,
    ) -> Tensor<1> {
        if index < self.encoder.len() {
            output.0.mse(target.0)
        } else {
            output.1.mse(target.1)
        }
    }
}

// E2E-QP trains the model on its task; here the task is the model's output in full precision.
impl EncoderDecoder {
    fn regression(&self, pair: Pair) -> RegressionOutput {
        let output = self.forward(pair.source, pair.target);
        let loss = (output.clone() - pair.wanted.clone()).square().mean();
        RegressionOutput::new(loss, output.flatten(0, 1), pair.wanted.flatten(0, 1))
    }
}

impl TrainStep for EncoderDecoder {
    type Input = Pair;
    type Output = RegressionOutput;

    fn step(&self, pair: Pair) -> TrainOutput<RegressionOutput> {
        let output = self.regression(pair);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for EncoderDecoder {
    type Input = Pair;
    type Output = RegressionOutput;

    fn step(&self, pair: Pair) -> RegressionOutput {
        self.regression(pair)
    }
}

/// Joins single pairs to batches.
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

/// Random inputs, and the original model's outputs.
fn pairs(model: &EncoderDecoder, count: usize, device: &Device) -> Arc<dyn DataLoader<Pair>> {
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

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    device.seed(3);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/encoder_decoder.pt");

    // 1. The weights, from PyTorch.
    let mut model = EncoderDecoder::new(&device);
    model.load_from(&mut PytorchStore::from_file(file))?;

    // 2. Two bits, by training.
    let (train, valid) = (pairs(&model, 128, &device), pairs(&model, 32, &device));
    let unseen = valid.iter().next().expect("a batch")?;
    let mut errors = Vec::new();
    let mut on_stage = |stage: &Stage<'_, EncoderDecoder>| {
        let error: f64 = stage.model.regression(unseen.clone()).loss.into_scalar();
        println!("{:<15}error {error:.5}", stage.name);
        errors.push(error);
    };
    let recipe = EfficientQatConfig::new("w2g16".parse()?, Weights::linears()).init();
    let packed = recipe.run(model, (train, valid), &mut on_stage)?;
    let (rounded, trained) = (errors[1], errors[3]);
    assert!(
        trained < 0.8 * rounded,
        "training does not help: {errors:?}"
    );

    // 3. Saved, and loaded into a model with other weights.
    let folder = std::env::temp_dir().join(format!("encoder-decoder-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("packed.safetensors");
    packed.save(&path)?;
    let loaded = EncoderDecoder::new(&device).load(&path)?;
    std::fs::remove_dir_all(&folder)?;
    let output = |model: &EncoderDecoder| {
        model
            .forward(unseen.source.clone(), unseen.target.clone())
            .into_data()
    };
    output(&loaded).assert_eq(&output(&packed), true);
    println!("the loaded model gives the same output, to the bit");
    Ok(())
}
