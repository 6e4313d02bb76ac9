//! What is in front of the decoder: anything that makes features of its width from something that is no text.

use crate::model::MultimodalError;
use burn::tensor::{Device, Tensor, TensorData};
use burn_eqat::train::ModelError;

/// A tower: its input to a first hidden state, that through blocks, and the last one to features.
///
/// The steps are apart so that both phases can quantize the blocks one by one.
pub trait Front {
    /// The paths of the blocks in the whole model, in their order.
    fn blocks(&self) -> Vec<String>;

    /// The input of the first block, `[media, positions, width]`.
    ///
    /// # Errors
    ///
    /// When the media are not of the kind or the shape that it takes.
    fn embed(&self, media: Media) -> Result<Tensor<3>, MultimodalError>;

    /// Runs a block; input and output are `[media, positions, width]`.
    fn run_block(&self, index: usize, hidden: Tensor<3>) -> Tensor<3>;

    /// What the projector gets of the last block's output: `[media, features, width]`.
    fn features(&self, hidden: Tensor<3>) -> Tensor<3>;
}

/// The images or sounds of a batch, prepared.
#[derive(Clone, Debug)]
pub enum Media {
    /// `[images, 3, height, width]`
    Images(Tensor<4>),
    /// Log-mel frames, `[sounds, bands, frames]`.
    Sounds(Tensor<3>),
}

/// An image or a sound, prepared, on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// `[3, height, width]`
    Image(TensorData),
    /// Log-mel frames, `[bands, frames]`.
    Sound(TensorData),
}

impl Media {
    /// What it is, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Media::Images(_) => "images",
            Media::Sounds(_) => "sounds",
        }
    }

    /// The same on another device.
    pub fn to_device(self, device: &Device) -> Self {
        match self {
            Media::Images(images) => Media::Images(images.to_device(device)),
            Media::Sounds(sounds) => Media::Sounds(sounds.to_device(device)),
        }
    }

    /// Several inputs of one kind and shape.
    ///
    /// # Errors
    ///
    /// When there is none, or they differ.
    pub fn stack(inputs: &[&Input], device: &Device) -> Result<Self, ModelError> {
        let Some(first) = inputs.first() else {
            return Err("a batch has no inputs, expected one or more".into());
        };
        let shape = first.data().shape();
        let mut values: Vec<f32> = Vec::with_capacity(inputs.len() * shape.num_elements());
        for input in inputs {
            let same_kind = std::mem::discriminant(*input) == std::mem::discriminant(*first);
            let found = input.data().shape();
            if !same_kind || found != shape {
                let message = format!(
                    "a batch has inputs of shapes {shape:?} and {found:?}, expected one shape"
                );
                return Err(message.into());
            }
            values.extend(input.data().iter::<f32>());
        }
        let shape = [&[inputs.len()][..], shape.as_slice()].concat();
        let data = TensorData::new(values, shape);
        Ok(match first {
            Input::Image(_) => Media::Images(Tensor::from_data(data, device)),
            Input::Sound(_) => Media::Sounds(Tensor::from_data(data, device)),
        })
    }
}

impl Input {
    fn data(&self) -> &TensorData {
        match self {
            Input::Image(data) | Input::Sound(data) => data,
        }
    }
}
