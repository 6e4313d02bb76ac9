//! Two models from ONNX files, a CNN and a transformer encoder. burn-onnx generates Burn code from them (`build.rs`), and
//! this program takes it, unchanged, to 4 and 2 bits per weight by training.
//!
//! ```text
//! cargo run --release -p onnx-import
//! ```
#![deny(missing_docs)]

mod classifier;
mod data;
mod digits;
mod encoder;
mod imported;
mod lookups;
mod quantize;
mod random;
mod table;
#[cfg(test)]
mod tests;

use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use burn_eqat::train::Blockwise;
use burn_eqat::{Quantize, Stage};
use data::{Batch, Drawn};
use imported::{Generated, Imported, Inputs};
use quantize::quantize;
use std::error::Error;
use std::path::Path;
use std::time::Instant;
use table::Row;

/// Seed of the examples that the models were trained on first; they are calibrated with these.
const TRAIN: u64 = 1;
/// Seed of the examples that are measured; no model was trained on them.
const UNSEEN: u64 = 2;
/// Seed of the examples for validation.
const VALID: u64 = 3;

/// How much of everything.
struct Settings {
    /// Examples for quantization.
    calibration: usize,
    /// Examples for measuring.
    unseen: usize,
    /// Schemes to quantize to.
    schemes: &'static [&'static str],
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        calibration: 8192,
        unseen: 2000,
        schemes: &["w4g32", "w2g32", "w2g-1"],
    };
    let folder = std::env::temp_dir().join("onnx-import");
    std::fs::create_dir_all(&folder)?;
    println!(
        "Accuracy on {} unseen examples.\n\n{}",
        settings.unseen,
        table::header()
    );
    run::<classifier::Model>(&settings, &folder)?;
    run::<encoder::Model>(&settings, &folder)?;
    println!("\nThe quantized models are in {}.", folder.display());
    Ok(())
}

/// Quantizes a model with each scheme.
fn run<M: Generated>(settings: &Settings, folder: &Path) -> Result<Vec<Row>, Box<dyn Error>>
where
    Imported<M>: Blockwise<Batch = Batch<Inputs<M>>>,
{
    let device = Device::default();
    device.seed(1);
    let unseen = Drawn::<M::Task>::new(UNSEEN, settings.unseen).loader(200, &device);
    let mut rows = Vec::new();
    for scheme in settings.schemes {
        let start = Instant::now();
        let file = folder.join(format!("{}-{scheme}.safetensors", M::NAME));
        let calibration = Drawn::<M::Task>::new(TRAIN, settings.calibration).loader(32, &device);
        let valid = Drawn::<M::Task>::new(VALID, 256).loader(32, &device);
        let model = Imported {
            model: M::load(&device),
        };
        let mut accuracy = Vec::new();
        let mut on_stage = |stage: &Stage<'_, Imported<M>>| -> Result<(), DatasetError> {
            accuracy.push(stage.model.accuracy(&unseen)?);
            Ok(())
        };
        let packed = quantize(
            model,
            scheme.parse()?,
            (calibration, valid),
            &mut on_stage,
            &file,
        )?;
        let row = Row {
            model: M::NAME,
            scheme: scheme.parse()?,
            bits_per_weight: packed.size_report().bits_per_weight(),
            bytes: std::fs::metadata(&file)?.len(),
            accuracy,
            seconds: start.elapsed().as_secs_f64(),
        };
        println!("{row}");
        rows.push(row);

        // What was saved is what was measured, to the bit.
        let loaded = Imported {
            model: M::new(&device),
        }
        .load(&file)?;
        for batch in unseen.iter() {
            let inputs = batch?.inputs;
            let expected = packed.model.logits(inputs.clone()).into_data();
            loaded
                .model
                .logits(inputs)
                .into_data()
                .assert_eq(&expected, true);
        }
    }
    Ok(rows)
}
