use super::AudioBlock;
use crate::config::{AudioConfig, ConfigError};
use crate::encoder::Activation;
use crate::front::{Front, Media};
use crate::model::MultimodalError;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::pool::{AvgPool1d, AvgPool1dConfig};
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, PaddingConfig1d};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor, TensorData};

/// An encoder of sounds, of Whisper's kind: two convolutions over log-mel frames, the second of which halves them, sinusoids
/// for the positions, blocks, and an average of each two positions. The names are those of Qwen2-Audio's files.
#[derive(Module, Debug)]
pub struct AudioTower {
    /// Bands to the hidden width. It stays dense: only matrices are quantized.
    pub conv1: Conv1d,
    /// Every other position. It stays dense too.
    pub conv2: Conv1d,
    /// Added at each position: sinusoids, which are not trained.
    pub embed_positions: Embedding,
    /// The blocks, in their order.
    pub layers: Vec<AudioBlock>,
    /// Norm of the averages.
    pub layer_norm: LayerNorm,
    pool: AvgPool1d,
    bands: usize,
    frames: usize,
}

impl AudioTower {
    /// A tower with random weights.
    pub(crate) fn new(config: &AudioConfig, device: &Device) -> Result<Self, ConfigError> {
        let name = &config.activation_function;
        let activation = Activation::named("audio_config.activation_function", name)?;
        let width = config.d_model;
        let convolution = |bands, stride| {
            Conv1dConfig::new(bands, width, 3)
                .with_stride(stride)
                .with_padding(PaddingConfig1d::Explicit(1, 1))
                .init(device)
        };
        let waves = sinusoids(config.max_source_positions, width, device);
        let blocks = 0..config.encoder_layers;
        Ok(Self {
            conv1: convolution(config.num_mel_bins, 1),
            conv2: convolution(width, 2),
            embed_positions: Embedding {
                weight: Param::from_tensor(waves).no_grad(),
            },
            layers: blocks
                .map(|_| AudioBlock::new(config, activation, device))
                .collect(),
            layer_norm: LayerNormConfig::new(width).init(device),
            pool: AvgPool1dConfig::new(2).with_stride(2).init(),
            bands: config.num_mel_bins,
            frames: config.frames(),
        })
    }
}

/// Sines and then cosines of each position, `[positions, width]`: of wavelengths from 2 pi to 20000 pi.
fn sinusoids(positions: usize, width: usize, device: &Device) -> Tensor<2> {
    let half = width / 2;
    let step = 10_000f64.ln() / (half - 1) as f64;
    let mut values = Vec::with_capacity(positions * width);
    for position in 0..positions {
        let angle = |pair| position as f64 * (-step * pair as f64).exp();
        values.extend((0..half).map(|pair| angle(pair).sin() as f32));
        values.extend((0..half).map(|pair| angle(pair).cos() as f32));
    }
    Tensor::from_data(TensorData::new(values, [positions, width]), device)
}

impl Front for AudioTower {
    fn blocks(&self) -> Vec<String> {
        let blocks = 0..self.layers.len();
        blocks
            .map(|index| format!("audio_tower.layers.{index}"))
            .collect()
    }

    fn embed(&self, media: Media) -> Result<Tensor<3>, MultimodalError> {
        let Media::Sounds(frames) = media else {
            return Err(MultimodalError::Media {
                found: media.name(),
                expected: "sounds",
            });
        };
        let [_, bands, count] = frames.dims();
        if [bands, count] != [self.bands, self.frames] {
            return Err(MultimodalError::Shape {
                found: vec![bands, count],
                expected: vec![self.bands, self.frames],
            });
        }
        let x = gelu(self.conv1.forward(frames));
        let x = gelu(self.conv2.forward(x));
        Ok(x.swap_dims(1, 2) + self.embed_positions.weight.val().unsqueeze())
    }

    fn run_block(&self, index: usize, hidden: Tensor<3>) -> Tensor<3> {
        self.layers[index].forward(hidden)
    }

    fn features(&self, hidden: Tensor<3>) -> Tensor<3> {
        let pooled = self.pool.forward(hidden.swap_dims(1, 2));
        self.layer_norm.forward(pooled.swap_dims(1, 2))
    }
}
