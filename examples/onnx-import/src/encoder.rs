//! The transformer encoder. The generated code has no blocks, so the whole of it is one.

use crate::data::Batch;
use crate::imported::{Generated, Imported};
use crate::lookups::Lookups;
use burn::tensor::{Device, Int, IntDType, Tensor};
use burn_eqat::train::{Blockwise, ModelError};

/// The code that burn-onnx generates.
#[allow(clippy::all, dead_code, unused_qualifications, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/models/encoder.rs"));
}

pub use generated::Model;

impl Generated for Model {
    type Task = Lookups;
    const NAME: &'static str = "encoder";

    fn load(device: &Device) -> Self {
        Self::from_embedded(device)
    }

    fn new(device: &Device) -> Self {
        Model::new(device)
    }

    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        self.forward(tokens)
    }
}

/// One block. Hidden states are of one type, so its input, the tokens, is in floats as its output is.
impl Blockwise for Imported<Model> {
    type Batch = Batch<Tensor<2, Int>>;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        vec!["model".to_string()]
    }

    fn embed(&self, batch: Self::Batch) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((batch.inputs.float(), ()))
    }

    fn run_block(&self, _: usize, tokens: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        Ok(self.model.forward(tokens.cast(IntDType::I64)))
    }
}
