//! LLaVA 1.5: the names and shapes of its published files, and what transformers computes for a tiny one.

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use burn_eqat::files::Checkpoint;
use burn_eqat::train::Blockwise;
use burn_eqat::{Quantize, Weights};
use common::{Shapes, assert_close, field, fixture, fixtures, numbers, tokens, values, write};
use llama::LoadedLlama;
use multimodal::LoadedMultimodal;
use multimodal::config::MultimodalConfig;
use multimodal::front::Media;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Every tensor of llava-hf/llava-1.5-7b-hf.
fn published() -> Shapes {
    let text = fs::read_to_string(fixtures().join("llava-1.5-7b.txt")).unwrap();
    let entry = |line: &str| {
        let (name, shape) = line.split_once(' ').unwrap();
        (name.to_string(), serde_json::from_str(shape).unwrap())
    };
    text.lines().map(entry).collect()
}

/// Its `config.json`: what it leaves out is a Llama 2 of 7 billion parameters.
fn published_config() -> Value {
    json!({
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": 32000,
        "model_type": "llava",
        "pad_token_id": 32001,
        "projector_hidden_act": "gelu",
        "text_config": {
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "rms_norm_eps": 1e-05,
            "torch_dtype": "float16",
            "vocab_size": 32064,
        },
        "tie_word_embeddings": false,
        "torch_dtype": "float16",
        "vision_config": {
            "hidden_size": 1024,
            "image_size": 336,
            "intermediate_size": 4096,
            "model_type": "clip_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
            "projection_dim": 768,
            "vocab_size": 32000,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": 32064,
    })
}

/// Writes a file of f16 tensors whose data is a hole: it takes no room on the disk.
fn write_header(path: &Path, shapes: &Shapes) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let start = end;
        end += 2 * shape.iter().product::<usize>() as u64;
        let entry = json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

#[test]
fn the_published_config_makes_the_published_shapes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("config.json"),
        published_config().to_string(),
    )
    .unwrap();
    let mut shapes = published();
    assert_eq!(shapes.len(), 686);
    write_header(&dir.path().join("model.safetensors"), &shapes);
    let config: MultimodalConfig = serde_json::from_value(published_config()).unwrap();
    assert_eq!(config.features().unwrap(), 576);
    let model = || config.init(&Device::flex()).unwrap();
    let checkpoint = || Checkpoint::open(dir.path()).unwrap();
    checkpoint().check_part(model(), "", |_| false).unwrap();
    // It would not pass with anything else.
    let taken = shapes.pop_last().unwrap();
    write_header(&dir.path().join("model.safetensors"), &shapes);
    let error = checkpoint().check_part(model(), "", |_| false).unwrap_err();
    assert!(error.to_string().contains(&taken.0), "{error}");
}

/// The size of a side in a small model of the same depth.
fn small(name: &str, side: usize) -> usize {
    match (name.starts_with("vision_tower."), side) {
        (true, 4096) => 24,
        (_, 1024) => 16,
        (true, 577) => 10,
        (true, 14) => 4,
        (false, 4096) => 32,
        (false, 11008) => 48,
        (false, 32064) => 40,
        (_, other) => other,
    }
}

#[test]
fn every_published_name_is_loaded() {
    let shapes: Shapes = published()
        .into_iter()
        .map(|(name, shape)| {
            let shape = shape.iter().map(|side| small(&name, *side)).collect();
            (name, shape)
        })
        .collect();
    let mut config = published_config();
    config["image_token_index"] = json!(39);
    for (part, fields) in [
        (
            "vision_config",
            json!({"hidden_size": 16, "image_size": 12, "intermediate_size": 24, "num_attention_heads": 2,
                   "patch_size": 4}),
        ),
        (
            "text_config",
            json!({"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 40}),
        ),
    ] {
        for (name, value) in fields.as_object().unwrap() {
            config[part][name] = value.clone();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config, &shapes, str::to_string);
    let loaded = LoadedMultimodal::open(dir.path(), &Device::flex()).unwrap();
    assert_eq!(loaded.model.blocks().len(), 32);
    let tower = loaded.model.clone().with_tower_blocks(true).blocks();
    assert_eq!(tower.len(), 23 + 32);
    // A tensor too many or too few is named.
    let mut more = shapes.clone();
    more.insert("vision_tower.vision_model.head.weight".into(), vec![1]);
    write(dir.path(), &config, &more, str::to_string);
    let error = LoadedMultimodal::open(dir.path(), &Device::flex())
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("vision_model.head.weight"),
        "{error}"
    );
}

/// The name of a tensor where transformers 4.52 to 4.57 write it.
fn newer(name: &str) -> String {
    for (old, new) in [
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    ] {
        if let Some(rest) = name.strip_prefix(old) {
            return format!("{new}{rest}");
        }
    }
    panic!("{name} is in no part of the model");
}

fn pixels(device: &Device) -> Media {
    let values = numbers("pixel_values", 3 * 12 * 12);
    let values: Vec<f32> = values.iter().map(|value| 4.0 * value).collect();
    Media::Images(Tensor::from_data(
        TensorData::new(values, [1, 3, 12, 12]),
        device,
    ))
}

#[test]
fn logits_are_those_of_transformers() {
    let fixture = fixture("llava");
    let device = Device::flex();
    let shapes: Shapes = field(&fixture, "tensors");
    let dir = tempfile::tempdir().unwrap();
    let positions: Vec<usize> = field(&fixture, "positions");
    let ids: Vec<i32> = field(&fixture, "tokens");
    let mut with_class = ids.clone();
    with_class.insert(3, ids[3]);
    let last = json!({"vision_feature_layer": -1, "vision_feature_select_strategy": "full"});
    let newest = |name: &str| newer(name).replace("vision_tower.vision_model.", "vision_tower.");
    let mixed = |name: &str| name.replace("vision_tower.vision_model.", "vision_tower.");
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(Rename<'_>, Value, &[i32], &str); 5] = [
        (&str::to_string, json!({}), &ids, "logits"),
        (&newer, json!({}), &ids, "logits"),
        (&newest, json!({}), &ids, "logits"),
        (&mixed, json!({}), &ids, "logits"),
        (
            &newest,
            last,
            &with_class,
            "logits_of_the_last_with_class_token",
        ),
    ];
    for (rename, fields, ids, name) in cases {
        let mut config = fixture["config"].clone();
        for (name, value) in fields.as_object().unwrap() {
            config[name] = value.clone();
        }
        write(dir.path(), &config, &shapes, rename);
        let expected: Vec<Vec<f32>> = field(&fixture, name);
        let whole = LoadedMultimodal::open(dir.path(), &device).unwrap().model;
        let by_block = LoadedMultimodal::open_by_block(dir.path(), &device).unwrap();
        for model in [whole, by_block.model] {
            let logits = model
                .forward(pixels(&device), tokens(ids, &device))
                .unwrap();
            for (position, expected) in positions.iter().zip(&expected) {
                let row = logits.clone().slice_dim(1, *position..position + 1);
                let what = format!("{name}, position {position}");
                assert_close(&what, &values(row), expected, 2e-5);
            }
        }
    }
}

#[test]
fn the_decoder_goes_to_gptq_and_back() {
    let fixture = fixture("llava");
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("llava"), dir.path().join("decoder"));
    fs::create_dir(&source).unwrap();
    write(
        &source,
        &fixture["config"],
        &field(&fixture, "tensors"),
        str::to_string,
    );
    let mut loaded = LoadedMultimodal::open(&source, &device).unwrap();
    let weights = Weights::in_blocks(&loaded.model);
    let scheme: burn_eqat::Scheme = "w4g32".parse().unwrap();
    loaded.model = loaded.model.quantize_rtn(&weights, scheme).unwrap();
    loaded.export_decoder_gptq(&target, false).unwrap();

    let entry: Value =
        serde_json::from_str(&fs::read_to_string(target.join("config.json")).unwrap()).unwrap();
    assert_eq!(entry["quantization_config"]["quant_method"], "gptq");
    assert_eq!(entry["model_type"], "llama");
    let decoder = LoadedLlama::open(&target, &device).unwrap();
    assert_eq!(decoder.schemes.unwrap().scheme, scheme);
    let ids: Vec<i32> = field(&fixture, "tokens");
    let hidden = loaded
        .model
        .embed(pixels(&device), tokens(&ids, &device))
        .unwrap();
    let logits = |model: &llama::model::Llama| {
        let hidden = model.decode_embedded(hidden.clone()).unwrap();
        model.head(hidden).into_data()
    };
    logits(&decoder.model).assert_eq(&logits(&loaded.model.language_model), true);
}
