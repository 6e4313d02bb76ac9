use super::ClipBlock;
use crate::config::{ConfigError, MultimodalConfig, VisionConfig};
use crate::encoder::Activation;
use crate::front::{Front, Media};
use crate::model::MultimodalError;
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};

/// A CLIP vision transformer, as LLaVA uses it: the output of one of its last blocks, without the class token.
#[derive(Module, Debug)]
pub struct VisionTower {
    /// The transformer.
    pub vision_model: ClipVision,
    /// Blocks that features go through; the others are there because files have them.
    used: usize,
    class_token: bool,
    image_size: usize,
}

/// The transformer.
#[derive(Module, Debug)]
pub struct ClipVision {
    /// Images to the hidden state.
    pub embeddings: ClipEmbeddings,
    /// Norm before the first block. (Files spell it so.)
    pub pre_layrnorm: LayerNorm,
    /// The blocks.
    pub encoder: ClipEncoder,
    /// Norm of the class token after the last block, which features do not go through.
    pub post_layernorm: LayerNorm,
}

/// Patches, a class token before them, and the position of each.
#[derive(Module, Debug)]
pub struct ClipEmbeddings {
    /// The class token, `[width]`.
    pub class_embedding: Param<Tensor<1>>,
    /// Each patch to the hidden width. It stays dense: only matrices are quantized.
    pub patch_embedding: Conv2d,
    /// Added at each position.
    pub position_embedding: Embedding,
}

/// A list of blocks.
#[derive(Module, Debug)]
pub struct ClipEncoder {
    /// The blocks, in their order.
    pub layers: Vec<ClipBlock>,
}

impl VisionTower {
    /// A tower with random weights.
    pub(crate) fn new(
        config: &MultimodalConfig,
        vision: &VisionConfig,
        device: &Device,
    ) -> Result<Self, ConfigError> {
        let activation = Activation::named("vision_config.hidden_act", &vision.hidden_act)?;
        let width = vision.hidden_size;
        let init = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        let norm = || {
            LayerNormConfig::new(width)
                .with_epsilon(vision.layer_norm_eps)
                .init(device)
        };
        let patch = [vision.patch_size; 2];
        let blocks = 0..vision.num_hidden_layers;
        Ok(Self {
            vision_model: ClipVision {
                embeddings: ClipEmbeddings {
                    class_embedding: init.init([width], device),
                    patch_embedding: Conv2dConfig::new([vision.num_channels, width], patch)
                        .with_stride(patch)
                        .with_bias(false)
                        .init(device),
                    position_embedding: EmbeddingConfig::new(vision.patches() + 1, width)
                        .with_initializer(init)
                        .init(device),
                },
                pre_layrnorm: norm(),
                encoder: ClipEncoder {
                    layers: blocks
                        .map(|_| ClipBlock::new(vision, activation, device))
                        .collect(),
                },
                post_layernorm: norm(),
            },
            used: config.feature_blocks(vision)?,
            class_token: config.keeps_class_token()?,
            image_size: vision.image_size,
        })
    }
}

impl Front for VisionTower {
    fn blocks(&self) -> Vec<String> {
        let blocks = 0..self.used;
        blocks
            .map(|index| format!("vision_tower.vision_model.encoder.layers.{index}"))
            .collect()
    }

    fn embed(&self, media: Media) -> Result<Tensor<3>, MultimodalError> {
        let Media::Images(images) = media else {
            return Err(MultimodalError::Media {
                found: media.name(),
                expected: "images",
            });
        };
        let [count, channels, height, width] = images.dims();
        if [channels, height, width] != [3, self.image_size, self.image_size] {
            return Err(MultimodalError::Shape {
                found: vec![channels, height, width],
                expected: vec![3, self.image_size, self.image_size],
            });
        }
        let embeddings = &self.vision_model.embeddings;
        let patches: Tensor<3> = embeddings.patch_embedding.forward(images).flatten(2, 3);
        let class = embeddings.class_embedding.val();
        let [width] = class.dims();
        let class = class.reshape([1, 1, width]).expand([count, 1, width]);
        let x = Tensor::cat(vec![class, patches.swap_dims(1, 2)], 1);
        let x = x + embeddings.position_embedding.weight.val().unsqueeze();
        Ok(self.vision_model.pre_layrnorm.forward(x))
    }

    fn run_block(&self, index: usize, hidden: Tensor<3>) -> Tensor<3> {
        self.vision_model.encoder.layers[index].forward(hidden)
    }

    fn features(&self, hidden: Tensor<3>) -> Tensor<3> {
        if self.class_token {
            return hidden;
        }
        let [_, positions, _] = hidden.dims();
        hidden.slice_dim(1, 1..positions)
    }
}
