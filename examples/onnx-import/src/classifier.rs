//! The CNN with its head of linear layers. Its blocks, the layers of the head, are written by hand.

use crate::data::Batch;
use crate::digits::Digits;
use crate::imported::{Generated, Imported};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_eqat::train::{Blockwise, ModelError};

/// The code that burn-onnx generates. Its fields are private, so what reads them is here.
#[allow(clippy::all, dead_code, unused_qualifications, reason = "generated")]
mod generated {
    use burn::tensor::activation::relu;

    include!(concat!(env!("OUT_DIR"), "/models/classifier.rs"));

    impl Model {
        /// Images `[batch, 1, 16, 16]` to the input of the head, `[batch, 256]`: the beginning of `forward`.
        pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
            let x = self.maxpool2d1.forward(relu(self.conv2d1.forward(images)));
            let x = self.maxpool2d2.forward(relu(self.conv2d2.forward(x)));
            x.flatten(1, 3)
        }

        /// The layers of the head.
        pub fn head(&self) -> [&Linear; 3] {
            [&self.linear1, &self.linear2, &self.linear3]
        }
    }
}

pub use generated::Model;

impl Generated for Model {
    type Task = Digits;
    const NAME: &'static str = "classifier";

    fn load(device: &Device) -> Self {
        Self::from_embedded(device)
    }

    fn new(device: &Device) -> Self {
        Model::new(device)
    }

    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }
}

/// Only matrices are quantized, so the convolutions stay dense, before the first block.
impl Blockwise for Imported<Model> {
    type Batch = Batch<Tensor<4>>;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        (1..=3)
            .map(|layer| format!("model.linear{layer}"))
            .collect()
    }

    fn embed(&self, batch: Self::Batch) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((self.model.features(batch.inputs), ()))
    }

    fn run_block(&self, index: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        let head = self.model.head();
        let y = head[index].forward(x);
        let last = index + 1 == head.len();
        Ok(if last { y } else { relu(y) })
    }
}
