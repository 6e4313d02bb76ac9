//! The audio tower beside transformers' Qwen2-Audio encoder.

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use burn_eqat::files::Checkpoint;
use common::{Shapes, assert_close, field, fixture, numbers, values, write};
use multimodal::config::MultimodalConfig;
use multimodal::front::{Front, Media};
use serde_json::json;

#[test]
fn features_are_those_of_transformers() {
    let fixture = fixture("audio");
    let device = Device::flex();
    let config = json!({
        "audio_config": fixture["config"],
        "text_config": {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 8},
        "audio_token_index": 7,
    });
    let dir = tempfile::tempdir().unwrap();
    let shapes: Shapes = field(&fixture, "tensors");
    write(dir.path(), &config, &shapes, str::to_string);
    let config: MultimodalConfig = serde_json::from_value(config).unwrap();
    let tower = config.init(&device).unwrap().audio_tower.unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tower = checkpoint
        .load_part(tower, "audio_tower.", |_| false)
        .unwrap();

    let (bands, frames) = (6, 16);
    let input = numbers("input_features", bands * frames);
    let input: Vec<f32> = input.iter().map(|value| 4.0 * value).collect();
    let input = Tensor::from_data(TensorData::new(input, [1, bands, frames]), &device);
    let mut hidden = tower.embed(Media::Sounds(input)).unwrap();
    for block in 0..tower.blocks().len() {
        hidden = tower.run_block(block, hidden);
    }
    let features = tower.features(hidden);
    let expected: Vec<Vec<f32>> = field(&fixture, "features");
    assert_close("features", &values(features), &expected.concat(), 1e-5);
}
