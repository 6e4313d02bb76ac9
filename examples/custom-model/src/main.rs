//! Two custom models, a vision transformer and a CNN. They are trained with plain Burn, on images that this program
//! draws, and then taken to 4, 3 and 2 bits per weight by training.
//!
//! ```text
//! cargo run --release -p custom-model
//! ```
//!
//! Everything that a plain Burn program does not have is in `quantize.rs`.
#![deny(missing_docs)]

mod cnn;
mod images;
mod quantize;
mod table;
mod train;
mod vit;

use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use burn_eqat::train::Blockwise;
use burn_eqat::{Quantize, Stage};
use cnn::Cnn;
use images::{CLASSES, ImageBatch, Images};
use quantize::{load, quantize};
use std::error::Error;
use std::path::Path;
use std::time::Instant;
use table::Row;
use train::{Classifier, accuracy, train};
use vit::Vit;

/// How much of everything.
struct Settings {
    /// Training images.
    images: usize,
    /// Passes over the training images in full precision.
    epochs: usize,
    /// Images for quantization: the first training images.
    calibration: usize,
    /// Images for measuring, which no model was trained on.
    unseen: usize,
    /// Schemes to quantize to.
    schemes: &'static [&'static str],
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        images: 10_000,
        epochs: 8,
        calibration: 2048,
        unseen: 2000,
        schemes: &["w4g32", "w3g32", "w2g32"],
    };
    let folder = std::env::temp_dir().join("custom-model");
    std::fs::create_dir_all(&folder)?;
    println!(
        "Accuracy on {} unseen images of {CLASSES} classes.",
        settings.unseen
    );
    run("vit", |device| Vit::new(32, 2, device), &settings, &folder)?;
    run("cnn", |device| Cnn::new(32, 64, device), &settings, &folder)?;
    println!("\nThe quantized models are in {}.", folder.display());
    Ok(())
}

/// Trains a model, then quantizes it with each scheme.
fn run<M: Classifier + Blockwise<Batch = ImageBatch>>(
    name: &str,
    new: fn(&Device) -> M,
    settings: &Settings,
    folder: &Path,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let device = Device::default();
    device.seed(1);
    let images = |seed, count, batch| Images { seed, count }.loader(batch, &device);
    let (learned, unseen) = (
        images(1, settings.images, 64),
        images(2, settings.unseen, 200),
    );

    // In full precision: a plain Burn program.
    let start = Instant::now();
    let model = train(new(&device), &learned, settings.epochs, 4e-3)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "\n{name}: {} parameters, trained in {seconds:.0} s",
        model.num_params()
    );
    println!("{}", table::header());

    // In few bits.
    let mut rows = Vec::new();
    for scheme in settings.schemes {
        let start = Instant::now();
        let file = folder.join(format!("{name}-{scheme}.safetensors"));
        let data = (images(1, settings.calibration, 32), images(3, 256, 32));
        let mut measured = Vec::new();
        let mut on_stage = |stage: &Stage<'_, M>| -> Result<(), DatasetError> {
            measured.push(accuracy(stage.model, &unseen)?);
            Ok(())
        };
        let packed = quantize(model.clone(), scheme.parse()?, data, &mut on_stage, &file)?;
        let row = Row {
            scheme: scheme.parse()?,
            bits_per_weight: packed.size_report().bits_per_weight(),
            bytes: std::fs::metadata(&file)?.len(),
            accuracy: measured,
            seconds: start.elapsed().as_secs_f64(),
        };
        println!("{row}");
        rows.push(row);

        // What was saved is what was measured, to the bit.
        let loaded = load(new(&device), &file)?;
        for batch in unseen.iter() {
            let images = batch?.images;
            let expected = packed.logits(images.clone()).into_data();
            loaded.logits(images).into_data().assert_eq(&expected, true);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole program, smaller: each model through every stage, to its file and back.
    #[test]
    fn both_models_go_all_the_way() {
        let settings = Settings {
            images: 4096,
            epochs: 6,
            calibration: 1024,
            unseen: 200,
            schemes: &["w4g32", "w2g32"],
        };
        let folder = tempfile::tempdir().unwrap();
        let vit = run(
            "vit",
            |device| Vit::new(32, 1, device),
            &settings,
            folder.path(),
        )
        .unwrap();
        let cnn = run(
            "cnn",
            |device| Cnn::new(8, 32, device),
            &settings,
            folder.path(),
        )
        .unwrap();
        for row in vit.iter().chain(&cnn) {
            let [full, .., tuned] = row.accuracy[..] else {
                panic!("{row}: a stage is missing");
            };
            assert!(full > 2.0 / CLASSES as f64, "{row}: nothing was learned");
            assert!(tuned > 0.5 * full, "{row}: quantization loses too much");
            let bits = row.scheme.bits.get() as f64;
            assert!(
                row.bits_per_weight > bits && row.bits_per_weight < bits + 1.0,
                "{row}"
            );
        }
        assert!(vit[1].bytes < vit[0].bytes, "2 bits are no smaller than 4");
    }
}
