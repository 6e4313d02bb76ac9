//! Tiny models of every family, in Hugging Face layout, against what transformers computes for them.

use Float::{Bf16, F16, F32};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_eqat_tests::fixtures;
use half::{bf16, f16};
use llama::LoadedLlama;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The type that a checkpoint's floats are in; all of the weights fit in each.
#[derive(Clone, Copy)]
pub enum Float {
    F32,
    F16,
    Bf16,
}

/// A weight by its name, as the fixtures' README says.
fn weight(name: &str, len: usize) -> Vec<f32> {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for byte in name.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        state >> 40
    };
    (0..len)
        .map(|_| {
            if name.ends_with("norm.weight") {
                1.0 + ((next() % 9) as f32 - 4.0) / 128.0
            } else {
                ((next() % 127) as f32 - 63.0) / 256.0
            }
        })
        .collect()
}

fn bytes(values: &[f32], float: Float) -> Vec<u8> {
    let values = values.iter();
    match float {
        F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
        F16 => values
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect(),
        Bf16 => values
            .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
            .collect(),
    }
}

/// Writes a fixture's model to a directory, in so many files.
pub fn write(dir: &Path, fixture: &Value, float: Float, files: usize) {
    let config = fixture["config"].to_string();
    fs::write(dir.join("config.json"), config).unwrap();
    let dtype = match float {
        F32 => Dtype::F32,
        F16 => Dtype::F16,
        Bf16 => Dtype::BF16,
    };
    let tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> =
        (fixture["tensors"].as_object().unwrap())
            .iter()
            .map(|(name, shape)| {
                let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
                let data = bytes(&weight(name, shape.iter().product()), float);
                (name.clone(), (shape, data))
            })
            .collect();
    let mut shards = vec![Vec::new(); files];
    let mut weight_map = BTreeMap::new();
    let file = |at| match files {
        1 => "model.safetensors".to_string(),
        _ => format!("model-{:05}-of-{files:05}.safetensors", at + 1),
    };
    for (i, (name, (shape, data))) in tensors.iter().enumerate() {
        let view = TensorView::new(dtype, shape.clone(), data).unwrap();
        shards[i % files].push((name, view));
        weight_map.insert(name, file(i % files));
    }
    for (at, shard) in shards.into_iter().enumerate() {
        safetensors::serialize_to_file(shard, None, &dir.join(file(at))).unwrap();
    }
    if files > 1 {
        let index = json!({"metadata": {}, "weight_map": weight_map});
        let path = dir.join("model.safetensors.index.json");
        fs::write(path, index.to_string()).unwrap();
    }
}

fn assert_close(what: &str, position: usize, actual: &[f32], expected: &Value) {
    let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(actual.len(), expected.len());
    for (token, (a, e)) in actual.iter().zip(&expected).enumerate() {
        let error = (a - e).abs();
        assert!(
            error < 2e-5,
            "{what}, position {position}, token {token}: {a} is not {e}"
        );
    }
}

/// A fixture by its name.
pub fn fixture(name: &str) -> Value {
    let path = fixtures().join(format!("families/{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn check(name: &str, float: Float, files: usize) {
    let fixture = fixture(name);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &fixture, float, files);
    let device = Device::flex();
    let model = LoadedLlama::open(dir.path(), &device).unwrap().model;

    let tokens: Vec<i32> = serde_json::from_value(fixture["tokens"].clone()).unwrap();
    let positions: Vec<usize> = serde_json::from_value(fixture["positions"].clone()).unwrap();
    let input = |tokens: &[i32]| {
        let data = TensorData::new(tokens.to_vec(), [1, tokens.len()]);
        Tensor::<2, Int>::from_data(data, &device)
    };
    let whole = model.forward(input(&tokens)).unwrap();
    // A prompt of five at once, the rest one by one.
    let mut cache = model.new_cache();
    let mut cached = BTreeMap::new();
    cached.insert(
        4,
        model
            .forward_cached(input(&tokens[..5]), &mut cache)
            .unwrap(),
    );
    for (at, token) in tokens.iter().enumerate().skip(5) {
        cached.insert(
            at,
            model.forward_cached(input(&[*token]), &mut cache).unwrap(),
        );
    }
    for (expected, position) in fixture["logits"].as_array().unwrap().iter().zip(positions) {
        let row = whole.clone().slice_dim(1, position..position + 1);
        assert_close(name, position, &burn_eqat_tests::values(row), expected);
        if let Some(logits) = cached.remove(&position) {
            let what = format!("{name} from its cache");
            assert_close(&what, position, &burn_eqat_tests::values(logits), expected);
        }
    }
}

#[test]
fn llama_2() {
    check("llama2", F32, 1);
}

#[test]
fn llama_3_with_rescaled_positions() {
    check("llama3", Bf16, 3);
    check("llama3_parameters", Bf16, 1);
}

#[test]
fn llama_with_biases_and_stretched_positions() {
    check("llama_linear", F32, 1);
}

#[test]
fn mistral_with_a_window() {
    check("mistral", Bf16, 2);
}

#[test]
fn qwen_2() {
    check("qwen2", Bf16, 1);
    check("qwen2_window", F16, 1);
}

#[test]
fn qwen_3_with_normed_heads() {
    check("qwen3", Bf16, 1);
}

#[test]
fn danube_3() {
    check("danube3", F16, 1);
}

#[test]
fn smollm_2() {
    check("smollm2", Bf16, 1);
}

/// Block by block from its files, or as a whole from memory: the same packed model.
#[test]
fn blocks_from_files_quantize_as_blocks_in_memory() {
    use burn_eqat::Quantize;
    use burn_eqat::lm::TokenBatch;
    use burn_eqat::train::{BlockApConfig, Blockwise};
    use burn_eqat_tests::batches;
    use llama::model::Llama;

    let fixture = fixture("qwen2_window");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &fixture, Bf16, 2);
    let device = Device::flex();
    let whole = LoadedLlama::open(dir.path(), &device).unwrap().model;
    let streamed = LoadedLlama::open_by_block(dir.path(), &device)
        .unwrap()
        .model;
    let in_memory = streamed.model.layers.iter().flatten().count();
    assert_eq!((in_memory, streamed.blocks().len()), (0, 3));

    let tokens: Vec<i32> = serde_json::from_value(fixture["tokens"].clone()).unwrap();
    let shape = [1, tokens.len()];
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), &device);
    let logits = |model: &Llama| burn_eqat_tests::values(model.forward(tokens.clone()).unwrap());
    assert!(logits(&whole) == logits(&streamed));

    let config = BlockApConfig::new("w4g16".parse().unwrap(), Llama::quantized_weights());
    let batch = || TokenBatch::from(tokens.clone());
    let train = |model: Llama| {
        let phase = config.clone().init();
        phase
            .run(
                model,
                batches(vec![batch()]),
                batches(Vec::new()),
                &mut |_| Ok(()),
            )
            .unwrap()
    };
    let (from_memory, from_files) = (train(whole), train(streamed));
    assert_eq!(from_files.model.layers.len(), 3);
    assert_eq!(
        from_files.size_report().packed_weights,
        from_memory.size_report().packed_weights
    );
    assert!(logits(&from_memory) == logits(&from_files));
}
