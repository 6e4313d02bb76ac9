//! The model, written with Burn alone up to its [`Blockwise`].
//!
//! Its blocks have different types, and every decoder block gets the encoder's output. In training this is the
//! output of the quantized encoder; for the targets it is that of the full-precision encoder.

use crate::data::Pair;
use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, RegressionOutput, TrainOutput, TrainStep};
use burn_eqat::train::{Blockwise, Hidden, ModelError};
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// Width of the hidden states.
pub const WIDTH: usize = 32;

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

/// Two encoder blocks, two decoder blocks that attend to what the encoder makes, and a head.
#[derive(Module, Debug)]
pub struct EncoderDecoder {
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
    /// Weights at random.
    pub fn new(device: &Device) -> Self {
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

    /// Source `[batch, sequence, WIDTH]` and target to the output, of the target's shape.
    pub fn forward(&self, source: Tensor<3>, target: Tensor<3>) -> Tensor<3> {
        let source = self.encoder.iter().fold(source, |x, b| b.forward(x));
        let decode = |x, block: &DecoderBlock| block.forward(x, source.clone());
        self.head.forward(self.decoder.iter().fold(target, decode))
    }
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
    /// The output for a pair, and how far it is from what was wanted.
    pub fn regression(&self, pair: Pair) -> RegressionOutput {
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
