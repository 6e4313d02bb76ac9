//! Everything that a plain Burn program does not have.

use crate::cnn::Cnn;
use crate::images::ImageBatch;
use crate::train::{Classifier, Loader};
use crate::vit::Vit;
use burn::tensor::Tensor;
use std::error::Error;
use std::path::Path;

use burn_eqat::train::{Blockwise, ModelError};
use burn_eqat::{EfficientQatConfig, Observer, Quantize, Scheme, Weights};

/// How images go through the model: to the first block, and through each block.
impl Blockwise for Vit {
    type Batch = ImageBatch;
    type Hidden = Tensor<3>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        (0..self.blocks.len())
            .map(|i| format!("blocks.{i}"))
            .collect()
    }

    fn embed(&self, batch: ImageBatch) -> Result<(Tensor<3>, ()), ModelError> {
        Ok((self.tokens(batch.images), ()))
    }

    fn run_block(&self, index: usize, x: Tensor<3>, _: &()) -> Result<Tensor<3>, ModelError> {
        Ok(self.blocks[index].forward(x))
    }
}

/// Takes a model to few bits by training, and saves it. The observer gets the model after each stage.
pub fn quantize<M: Classifier + Blockwise<Batch = ImageBatch>>(
    model: M,
    scheme: Scheme,
    (train, valid): (Loader, Loader),
    observer: &mut dyn Observer<M>,
    file: &Path,
) -> Result<M, Box<dyn Error>> {
    let weights = Weights::under(model.blocks());
    let recipe = EfficientQatConfig::new(scheme, weights).init();
    let packed = recipe.run(model, (train, valid), observer)?;
    packed.save(file)?;
    Ok(packed)
}

/// Loads a model that was saved into a new one, dense until then.
pub fn load<M: Classifier>(new: M, file: &Path) -> Result<M, Box<dyn Error>> {
    Ok(new.load(file)?)
}

/// The blocks of the CNN are the layers of its head. Its convolutions are not matrices, so they stay dense.
impl Blockwise for Cnn {
    type Batch = ImageBatch;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        (0..self.head.len()).map(|i| format!("head.{i}")).collect()
    }

    fn embed(&self, batch: ImageBatch) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((self.features(batch.images), ()))
    }

    fn run_block(&self, index: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        Ok(self.head_layer(index, x))
    }
}
