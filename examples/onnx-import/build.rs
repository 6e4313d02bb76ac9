//! Turns the ONNX files into Burn code and weights.

use burn_onnx::{LoadStrategy, ModelGen};

fn main() {
    for model in ["classifier", "encoder"] {
        let file = format!("assets/{model}.onnx");
        println!("cargo::rerun-if-changed={file}");
        ModelGen::new()
            .input(&file)
            .out_dir("models")
            .load_strategy(LoadStrategy::Embedded)
            .run_from_script();
    }
}
