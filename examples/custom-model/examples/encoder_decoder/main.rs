//! An encoder-decoder with cross-attention: read from a PyTorch file, quantized by training, saved and
//! loaded again.
//!
//! The model is in `model.rs`: how it is taken block by block is all that is added to it.

mod data;
mod model;

use burn::store::{ModuleSnapshot, PytorchStore};
use burn::tensor::Device;
use burn_eqat::{EfficientQatConfig, Quantize, Stage, Weights};
use data::pairs;
use model::EncoderDecoder;
use std::error::Error;

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
    println!("the loaded model gives the same, to the bit");
    Ok(())
}
