//! Checkpoints as they are published: names, extra tensors and files that others write.

use crate::families::{Float, fixture, write};
use burn::tensor::{Device, Int, Tensor};
use burn_eqat_tests::pickle::{Named, write_state_dict};
use burn_eqat_tests::values;
use llama::LoadedLlama;
use llama::model::Llama;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A tensor of a file: name, shape, bytes of f32.
pub type Raw = (String, Vec<usize>, Vec<u8>);

/// The tensors of a directory whose floats are in f32.
pub fn read(dir: &Path) -> Vec<Raw> {
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |(name, view): (String, TensorView<'_>)| {
        (name, view.shape().to_vec(), view.data().to_vec())
    };
    file.tensors().into_iter().map(raw).collect()
}

fn rewrite(dir: &Path, tensors: &[Raw]) {
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

/// A tiny model, what its config is changed by, and its tensors.
fn checkpoint(name: &str, change: impl Fn(&mut Value)) -> (tempfile::TempDir, Vec<Raw>) {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = fixture(name);
    change(&mut fixture["config"]);
    write(dir.path(), &fixture, Float::F32, 1);
    let tensors = read(dir.path());
    (dir, tensors)
}

fn open(dir: &Path) -> Result<LoadedLlama, String> {
    let device = Device::flex();
    let whole = LoadedLlama::open(dir, &device).map_err(|error| error.to_string());
    let by_block = LoadedLlama::open_by_block(dir, &device).map_err(|error| error.to_string());
    assert_eq!(whole.is_ok(), by_block.is_ok());
    let whole = whole?;
    assert_eq!(logits(&whole.model), logits(&by_block.unwrap().model));
    Ok(whole)
}

fn logits(model: &Llama) -> Vec<f32> {
    let tokens = Tensor::<2, Int>::from_data([[1, 5, 9, 0]], &Device::flex());
    values(model.forward(tokens).unwrap())
}

fn named(tensors: &[Raw], name: &str) -> usize {
    let at = tensors.iter().position(|(other, ..)| other == name);
    at.unwrap_or_else(|| panic!("no tensor {name}"))
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// A model whose output layer is its embedding, which is stored once.
fn tied() -> (tempfile::TempDir, Vec<Raw>) {
    let (dir, mut tensors) = checkpoint("llama2", |config| {
        config["tie_word_embeddings"] = json!(true);
    });
    tensors.retain(|(name, ..)| name != HEAD);
    rewrite(dir.path(), &tensors);
    (dir, tensors)
}

#[test]
fn tied_embeddings_are_found_under_either_name() {
    let (dir, mut tensors) = tied();
    let expected = logits(&open(dir.path()).unwrap().model);
    let embedding = named(&tensors, EMBEDDING);
    tensors[embedding].0 = HEAD.to_string();
    rewrite(dir.path(), &tensors);
    assert_eq!(logits(&open(dir.path()).unwrap().model), expected);

    // Under both, as some write them.
    let (_, shape, data) = tensors[embedding].clone();
    tensors.push((EMBEDDING.to_string(), shape, data));
    rewrite(dir.path(), &tensors);
    assert_eq!(logits(&open(dir.path()).unwrap().model), expected);
}

/// transformers ties nothing in these families where `config.json` does not say it.
#[test]
fn embeddings_are_not_tied_unless_the_config_says_so() {
    for family in ["llama2", "mistral", "qwen2", "qwen3"] {
        let forget = |config: &mut Value| {
            config
                .as_object_mut()
                .unwrap()
                .remove("tie_word_embeddings");
        };
        let (dir, mut tensors) = checkpoint(family, forget);
        if !tensors.iter().any(|(name, ..)| name == HEAD) {
            let (_, shape, data) = tensors[named(&tensors, EMBEDDING)].clone();
            tensors.push((HEAD.to_string(), shape, data));
        }
        let head = named(&tensors, HEAD);
        tensors[head].2.fill(0);
        rewrite(dir.path(), &tensors);
        let model = open(dir.path()).unwrap().model;
        assert!(logits(&model).iter().all(|logit| *logit == 0.0), "{family}");
        tensors.swap_remove(head);
        rewrite(dir.path(), &tensors);
        let error = open(dir.path()).err().unwrap();
        assert!(
            error.contains("lm_head.weight: missing"),
            "{family}: {error}"
        );
    }
}

#[test]
fn names_may_lack_their_prefix() {
    let (dir, tensors) = checkpoint("llama2", |_| {});
    let expected = logits(&open(dir.path()).unwrap().model);
    let short = |(name, shape, data): &Raw| {
        let name = name.strip_prefix("model.").unwrap_or(name);
        (name.to_string(), shape.clone(), data.clone())
    };
    rewrite(dir.path(), &tensors.iter().map(short).collect::<Vec<_>>());
    assert_eq!(logits(&open(dir.path()).unwrap().model), expected);

    // And tied besides, under the other name.
    let (dir, mut tensors) = tied();
    let expected = logits(&open(dir.path()).unwrap().model);
    let embedding = named(&tensors, EMBEDDING);
    tensors[embedding].0 = HEAD.to_string();
    rewrite(dir.path(), &tensors.iter().map(short).collect::<Vec<_>>());
    assert_eq!(logits(&open(dir.path()).unwrap().model), expected);
}

#[test]
fn buffers_that_are_computed_are_not_needed() {
    let (dir, mut tensors) = checkpoint("llama2", |_| {});
    let expected = logits(&open(dir.path()).unwrap().model);
    for name in [
        "model.rotary_emb.inv_freq",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.1.self_attn.rotary_emb.cos_cached",
        "model.layers.0.self_attn.masked_bias",
        "model.layers.0.attn.bias",
    ] {
        tensors.push((name.to_string(), vec![1], vec![0; 4]));
        rewrite(dir.path(), &tensors);
        let model = open(dir.path())
            .unwrap_or_else(|error| panic!("{error}"))
            .model;
        assert_eq!(logits(&model), expected, "{name}");
    }
    // Anything else is a model of another kind.
    tensors.push((
        "model.layers.0.self_attn.sinks".to_string(),
        vec![1],
        vec![0; 4],
    ));
    rewrite(dir.path(), &tensors);
    let error = open(dir.path()).err().unwrap();
    assert!(
        error.contains("self_attn.sinks: the model has no such tensor"),
        "{error}"
    );
}

/// The same tensors, for a file of PyTorch's.
pub fn state_dict(tensors: &[Raw]) -> Vec<Named> {
    let named = |(name, shape, data): &Raw| {
        let words = data.as_chunks::<4>().0.iter();
        let values = words.map(|word| f32::from_le_bytes(*word)).collect();
        (name.clone(), shape.clone(), values)
    };
    tensors.iter().map(named).collect()
}

#[test]
fn pytorch_files_load_where_there_is_no_safetensors_file() {
    let (dir, tensors) = checkpoint("llama2", |_| {});
    let dir = dir.path();
    let expected = logits(&open(dir).unwrap().model);
    let state = state_dict(&tensors);

    // Beside the other file it is not even looked at.
    fs::write(dir.join("pytorch_model.bin"), "nothing").unwrap();
    assert_eq!(logits(&open(dir).unwrap().model), expected);
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let error = open(dir).err().unwrap();
    assert!(
        error.contains("pytorch_model.bin: not a PyTorch file"),
        "{error}"
    );
    write_state_dict(&dir.join("pytorch_model.bin"), &state);
    assert_eq!(logits(&open(dir).unwrap().model), expected);
    fs::remove_file(dir.join("pytorch_model.bin")).unwrap();

    // Two files and an index.
    let mut weight_map = serde_json::Map::new();
    for (at, part) in state.chunks(state.len().div_ceil(2)).enumerate() {
        let file = format!("pytorch_model-{:05}-of-00002.bin", at + 1);
        write_state_dict(&dir.join(&file), part);
        let names = part.iter().map(|(name, ..)| (name.clone(), json!(file)));
        weight_map.extend(names);
    }
    let index = json!({"metadata": {}, "weight_map": weight_map});
    fs::write(dir.join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
    assert_eq!(logits(&open(dir).unwrap().model), expected);

    fs::write(dir.join("pytorch_model-00002-of-00002.bin"), b"PK").unwrap();
    let error = open(dir).err().unwrap();
    assert!(
        error.contains("pytorch_model-00002-of-00002.bin"),
        "{error}"
    );
}

#[test]
fn a_sentencepiece_tokenizer_has_to_be_converted() {
    let (dir, _) = checkpoint("llama2", |_| {});
    let loaded = open(dir.path()).unwrap();
    let error = loaded.tokenizer().err().unwrap().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    fs::write(dir.path().join("tokenizer.model"), "pieces").unwrap();
    let error = loaded.tokenizer().err().unwrap().to_string();
    assert!(
        error.contains("tokenizer.model") && error.contains("save_pretrained"),
        "{error}"
    );
}
