//! What the tests of fixtures share: numbers by their names, and checkpoints made of them.
#![allow(dead_code, reason = "each test uses some of it")]

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A fixture by its name.
pub fn fixture(name: &str) -> Value {
    let path = fixtures().join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What is called so, as the fixtures' README says.
pub fn numbers(name: &str, len: usize) -> Vec<f32> {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for byte in name.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let is_norm = name.contains("norm") && name.ends_with(".weight");
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let r = state >> 40;
            if is_norm {
                1.0 + ((r % 9) as f32 - 4.0) / 128.0
            } else {
                ((r % 127) as f32 - 63.0) / 256.0
            }
        })
        .collect()
}

/// Names of tensors with their shapes.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Writes a checkpoint of these tensors, f32, each under the name that `rename` gives it.
pub fn write(dir: &Path, config: &Value, shapes: &Shapes, rename: impl Fn(&str) -> String) {
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .iter()
        .map(|(name, shape)| {
            let values = numbers(name, shape.iter().product());
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (rename(name), shape.clone(), bytes.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name, view)
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

/// A field of a fixture.
pub fn field<T: serde::de::DeserializeOwned>(fixture: &Value, name: &str) -> T {
    serde_json::from_value(fixture[name].clone()).unwrap()
}

/// Tokens `[1, seq]`.
pub fn tokens(tokens: &[i32], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(tokens.to_vec(), [1, tokens.len()]), device)
}

/// The values of a tensor, row by row.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Asserts that no value differs by more than a tolerance.
pub fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (at, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs();
        assert!(
            error <= tolerance,
            "{what} [{at}]: {actual} is not {expected}"
        );
    }
}
