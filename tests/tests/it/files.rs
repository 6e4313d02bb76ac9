//! Checkpoint directories: round trips, and what is refused.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LinearConfig};
use burn::tensor::{DType, Device, Distribution, Int, Tensor};
use burn_eqat::files::{Checkpoint, StagedDir, save_model};
use burn_eqat::{Quantize, Scheme, Weights};
use burn_eqat_tests::seeded;
use llama::model::Llama;
use llama::{LlamaConfig, LoadedLlama};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "attention_bias": true,
        "torch_dtype": "float32",
    })
}

fn shape() -> LlamaConfig {
    serde_json::from_value(config()).unwrap()
}

/// A random model in a directory of its own.
fn saved(parent: &Path) -> (Llama, PathBuf) {
    let device = Device::flex();
    let _random = seeded(2);
    let model = shape().init(&device);
    let dir = parent.join("model");
    let staged = StagedDir::begin(&dir, false).unwrap();
    save_model(&model, &config(), DType::F32, &staged).unwrap();
    staged.commit().unwrap();
    (model, dir)
}

fn logits(model: &Llama) -> Vec<f32> {
    let tokens = Tensor::<2, Int>::from_data([[1, 5, 39, 0], [2, 2, 7, 3]], &Device::flex());
    burn_eqat_tests::values(model.forward(tokens).unwrap())
}

fn open(dir: &Path) -> Result<LoadedLlama, String> {
    LoadedLlama::open(dir, &Device::flex()).map_err(|error| error.to_string())
}

#[test]
fn dense_and_packed_round_trips() {
    let parent = tempfile::tempdir().unwrap();
    let (model, dir) = saved(parent.path());
    let loaded = open(&dir).unwrap();
    assert_eq!(logits(&loaded.model), logits(&model));
    assert!(loaded.schemes.is_none());

    for name in ["w2g16", "w3g32", "w4g-1", "w8g8-sym"] {
        let scheme: Scheme = name.parse().unwrap();
        let packed = model
            .clone()
            .quantize_rtn(&Llama::quantized_weights(), scheme)
            .unwrap()
            .round_scales();
        let target = parent.path().join(name);
        loaded.save_packed(&packed, &target, false).unwrap();
        let again = open(&target).unwrap();
        assert_eq!(again.schemes.unwrap().to_string(), name);
        assert_eq!(logits(&again.model), logits(&packed), "{name}");

        // The files are as small as the paper says: N + (N + 16) / g bits a weight.
        let report = again.model.size_report();
        let bits = report.bits_per_weight();
        let size = fs::metadata(target.join("model.safetensors"))
            .unwrap()
            .len() as usize;
        let header = 8 + header_len(&target.join("model.safetensors"));
        assert_eq!(size - header, report.bytes(), "{name}");
        if name == "w2g16" {
            assert!(bits <= 2.0 + 18.0 / 16.0, "{bits}");
        }
    }
}

fn header_len(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

/// Two files and an index, as large checkpoints have.
#[test]
fn shards_are_read_by_their_index() {
    let parent = tempfile::tempdir().unwrap();
    let (model, dir) = saved(parent.path());
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    let mut halves = [Vec::new(), Vec::new()];
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (i, (name, view)) in tensors.into_iter().enumerate() {
        map.insert(name.clone(), json!(format!("part-{}.safetensors", i % 2)));
        halves[i % 2].push((name, view));
    }
    for (i, half) in halves.into_iter().enumerate() {
        let path = dir.join(format!("part-{i}.safetensors"));
        fs::write(path, safetensors::serialize(half, None).unwrap()).unwrap();
    }
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let index = dir.join("model.safetensors.index.json");
    let write = |map: &serde_json::Map<String, Value>| {
        fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    };
    write(&map);
    assert_eq!(logits(&open(&dir).unwrap().model), logits(&model));

    let mut wrong = map.clone();
    wrong.insert("model.norm.weight".into(), json!("part-9.safetensors"));
    write(&wrong);
    assert!(open(&dir).err().unwrap().contains("part-9.safetensors"));
    wrong.insert("model.norm.weight".into(), json!("../part-0.safetensors"));
    write(&wrong);
    let error = open(&dir).err().unwrap();
    assert!(
        error.contains("expected a file of the directory"),
        "{error}"
    );
    let mut missing = map;
    missing.remove("model.norm.weight");
    write(&missing);
    let error = open(&dir).err().unwrap();
    assert!(error.contains("model.norm.weight: missing"), "{error}");
}

#[test]
fn broken_weights_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (_, dir) = saved(parent.path());
    let path = dir.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("a header cut off", whole[..100].to_vec()),
        ("data cut off", whole[..whole.len() - 1].to_vec()),
        (
            "a header of absurd length",
            [&[0xFF; 8], &whole[8..]].concat(),
        ),
        ("no JSON", [&whole[..8], b"?", &whole[9..]].concat()),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = open(&dir).err().unwrap();
        assert!(error.contains("model.safetensors"), "{what}: {error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(open(&dir).err().unwrap().contains("model.safetensors"));
    fs::remove_file(dir.join("config.json")).unwrap();
    assert!(open(&dir).err().unwrap().contains("config.json"));
}

#[test]
fn a_config_that_contradicts_the_tensors_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (_, dir) = saved(parent.path());
    for (field, value, expected) in [
        ("num_hidden_layers", json!(1), "model.layers.1."),
        ("num_hidden_layers", json!(3), "model.layers.2."),
        (
            "vocab_size",
            json!(41),
            "has shape [40, 32], expected [41, 32]",
        ),
        ("intermediate_size", json!(96), "has shape"),
        ("num_key_value_heads", json!(4), "has shape"),
        ("attention_bias", json!(false), "bias"),
        (
            "num_key_value_heads",
            json!(3),
            "a divisor of num_attention_heads 4",
        ),
        ("num_attention_heads", json!(0), "num_attention_heads is 0"),
        ("hidden_size", json!("32"), "config.json"),
        ("hidden_act", json!("gelu"), "expected silu"),
        ("model_type", json!("mamba"), "expected llama"),
        (
            "rope_scaling",
            json!({"rope_type": "llama3", "factor": 8.0}),
            "low_freq_factor is missing",
        ),
        ("rms_norm_eps", json!(-1.0), "expected a positive number"),
        (
            "max_position_embeddings",
            json!(1usize << 40),
            "max_position_embeddings",
        ),
        ("quantization_config", json!({"quant_method": "awq"}), "awq"),
        (
            "bos_token_id",
            json!(40),
            "bos_token_id is 40, expected less than vocab_size 40",
        ),
        ("eos_token_id", json!([1, 99]), "eos_token_id is 99"),
        (
            "rope_parameters",
            json!({"rope_type": "yarn"}),
            "rope_scaling.rope_type is yarn",
        ),
    ] {
        let mut config = config();
        config[field] = value.clone();
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let error = open(&dir)
            .err()
            .unwrap_or_else(|| panic!("{field} {value} was taken"));
        assert!(error.contains(expected), "{field} {value}: {error}");
    }
    fs::write(dir.join("config.json"), "{").unwrap();
    assert!(open(&dir).err().unwrap().contains("config.json"));
}

/// A packed directory whose scheme is not that of its tensors.
#[test]
fn a_scheme_that_contradicts_the_tensors_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (model, dir) = saved(parent.path());
    let scheme: Scheme = "w2g16".parse().unwrap();
    let packed = model
        .quantize_rtn(&Llama::quantized_weights(), scheme)
        .unwrap();
    let target = parent.path().join("packed");
    open(&dir)
        .unwrap()
        .save_packed(&packed, &target, false)
        .unwrap();
    let text = fs::read_to_string(target.join("config.json")).unwrap();
    for (other, expected) in [
        ("w2g32", "scales: has shape"),
        ("w4g16", "qweight: has shape"),
        ("w2g24", "groups of 24 do not divide"),
        ("w9g16", "expected 2, 3, 4 or 8"),
        ("nonsense", "expected something like w2g64"),
    ] {
        fs::write(target.join("config.json"), text.replace("w2g16", other)).unwrap();
        let error = open(&target).err().unwrap();
        assert!(error.contains(expected), "{other}: {error}");
    }
}

/// The reader gets the dtype of each tensor right, whatever the file is in.
#[test]
fn half_precision_files_load() {
    let _random = seeded(6);
    let parent = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let model = shape().init(&device);
    for dtype in [DType::BF16, DType::F16] {
        let round = |t: Tensor<2>| t.cast(dtype).cast(DType::F32);
        let mut model = model.clone();
        model.model.embed_tokens.weight = model.model.embed_tokens.weight.map(round);
        let dir = parent.path().join(format!("{dtype:?}"));
        let staged = StagedDir::begin(&dir, false).unwrap();
        save_model(&model, &config(), dtype, &staged).unwrap();
        staged.commit().unwrap();
        assert_eq!(logits(&open(&dir).unwrap().model), logits(&model));
        // Narrow where that loses nothing, whole where it would.
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let stored = |name: &str| format!("{:?}", file.tensor(name).unwrap().dtype());
        assert_eq!(stored("model.embed_tokens.weight"), format!("{dtype:?}"));
        assert_eq!(stored("model.layers.0.mlp.up_proj.weight"), "F32");
    }
}

/// Matrices that are no linear layer's, and the root of a module itself.
#[derive(Module, Debug)]
struct Odd {
    table: Embedding,
    first: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
}

#[test]
fn any_matrix_is_saved_and_loaded_packed() {
    let device = Device::flex();
    let _random = seeded(3);
    let new = || {
        let matrix =
            || Param::from_tensor(Tensor::random([16, 10], Distribution::Default, &device));
        Odd {
            table: EmbeddingConfig::new(32, 6).init(&device),
            first: matrix(),
            second: matrix(),
        }
    };
    let scheme: Scheme = "w3g8".parse().unwrap();
    let parent = tempfile::tempdir().unwrap();
    let all = Weights::matrices();
    let save = |name: &str, write: &dyn Fn(&StagedDir)| {
        let dir = parent.path().join(name);
        let staged = StagedDir::begin(&dir, false).unwrap();
        write(&staged);
        staged.commit().unwrap();
        Checkpoint::open(&dir).unwrap()
    };
    let config = json!({"model_type": "test"});

    let packed = new().quantize_rtn(&all, scheme).unwrap();
    let checkpoint = save("odd", &|staged| {
        save_model(&packed, &config, DType::F32, staged).unwrap();
    });
    let loaded = checkpoint.load(new(), |_| false).unwrap();
    let values = burn_eqat_tests::values::<2>;
    assert_eq!(
        values(loaded.table.weight.val()),
        values(packed.table.weight.val())
    );
    assert_eq!(values(loaded.first.val()), values(packed.first.val()));
    assert_eq!(values(loaded.second.val()), values(packed.second.val()));

    let linear = || LinearConfig::new(16, 10).init(&device);
    let packed = linear().quantize_rtn(&all, scheme).unwrap();
    let checkpoint = save("linear", &|staged| {
        save_model(&packed, &config, DType::F32, staged).unwrap();
    });
    let loaded = checkpoint.load(linear(), |_| false).unwrap();
    assert_eq!(values(loaded.weight.val()), values(packed.weight.val()));
}

/// Some weights in another scheme than the others, and no two files that disagree on it.
#[test]
fn schemes_of_single_weights_round_trip() {
    let parent = tempfile::tempdir().unwrap();
    let (model, dir) = saved(parent.path());
    let loaded = open(&dir).unwrap();
    let group = |pattern: &str| Weights::matching(pattern).unwrap();
    let packed = model
        .attach_fake_quant(
            &group(r"down_proj\.weight$"),
            "w4g32-sym".parse::<Scheme>().unwrap(),
        )
        .and_then(|m| {
            m.attach_fake_quant(
                &group(r"0\..*[qk]_proj\.weight$"),
                "w3g-1".parse::<Scheme>().unwrap(),
            )
        })
        .and_then(|m| {
            let others = r"(1\..*[qk]|v|o|gate|up)_proj\.weight$";
            m.attach_fake_quant(&group(others), "w2g16".parse::<Scheme>().unwrap())
        })
        .and_then(Quantize::pack)
        .unwrap()
        .round_scales();
    let schemes = |model: &Llama| {
        let block = model.model.layers[0].as_ref().unwrap();
        let layers = [
            &block.mlp.down_proj,
            &block.self_attn.q_proj,
            &block.mlp.up_proj,
        ];
        layers.map(|layer| {
            let packed = layer.weight.reparameterization::<burn_eqat::Packed>();
            packed.unwrap().scheme().to_string()
        })
    };
    let mixed = ["w4g32-sym", "w3g-1", "w2g16"];
    assert_eq!(schemes(&packed), mixed);

    let target = parent.path().join("mixed");
    loaded.save_packed(&packed, &target, false).unwrap();
    let text = fs::read_to_string(target.join("config.json")).unwrap();
    let entry = serde_json::from_str::<Value>(&text).unwrap()["quantization_config"].clone();
    assert_eq!(entry["scheme"], "w2g16");
    assert_eq!(entry["overrides"].as_object().unwrap().len(), 4);
    assert_eq!(
        entry["overrides"]["model.layers.1.mlp.down_proj.weight"],
        "w4g32-sym"
    );
    let again = open(&target).unwrap();
    let shown = |loaded: &LoadedLlama| loaded.schemes.as_ref().unwrap().to_string();
    assert_eq!(shown(&again), "w2g16 + 2 at w3g-1 + 2 at w4g32-sym");
    assert_eq!(schemes(&again.model), mixed);
    assert_eq!(logits(&again.model), logits(&packed));
    let by_block = LoadedLlama::open_by_block(&target, &Device::flex()).unwrap();
    assert_eq!(logits(&by_block.model), logits(&packed));
    assert_eq!(by_block.schemes, again.schemes);

    // An override that is not that of its tensors.
    let wrong = text.replace("\"w3g-1\"", "\"w3g16\"");
    fs::write(target.join("config.json"), wrong).unwrap();
    let error = open(&target).err().unwrap();
    assert!(
        error.contains("scales: has shape [1, 32], expected [2, 32]"),
        "{error}"
    );
}

/// Step sizes that are no 16-bit numbers are saved as they are.
#[test]
fn what_is_saved_is_what_was_measured() {
    let parent = tempfile::tempdir().unwrap();
    let (model, dir) = saved(parent.path());
    let packed = model
        .attach_fake_quant(
            &Llama::quantized_weights(),
            "w3g16".parse::<Scheme>().unwrap(),
        )
        .and_then(Quantize::pack)
        .unwrap();
    assert_ne!(logits(&packed.clone().round_scales()), logits(&packed));
    let target = parent.path().join("packed");
    let loaded = open(&dir).unwrap();
    loaded.save_packed(&packed, &target, false).unwrap();
    let again = open(&target).unwrap();
    assert_eq!(logits(&again.model), logits(&packed));
    // And counted so: 32 bits for a step size, 3 for its zero point, in groups of 16.
    let bits = |model: &Llama| model.size_report().bits_per_weight();
    assert_eq!(bits(&again.model), bits(&packed));
    assert_eq!(bits(&packed), bits(&packed.clone().round_scales()) + 1.0);
}

/// Fake quantization is a state of training, which no file holds.
#[test]
fn a_model_in_training_is_not_saved() {
    let parent = tempfile::tempdir().unwrap();
    let (model, dir) = saved(parent.path());
    let weights = Llama::quantized_weights();
    let training = model.attach_fake_quant(&weights, "w3g16".parse::<Scheme>().unwrap());
    let target = parent.path().join("training");
    let saved = open(&dir)
        .unwrap()
        .save_packed(&training.unwrap(), &target, false);
    let error = saved.unwrap_err().to_string();
    assert!(error.contains("pack it first"), "{error}");
    assert!(!target.exists());
}

/// A model whose place cannot be written is not lost.
#[test]
fn what_cannot_be_saved_in_its_place_is_saved_beside_it() {
    let parent = tempfile::tempdir().unwrap();
    let (model, dir) = saved(parent.path());
    let packed = model
        .quantize_rtn(
            &Llama::quantized_weights(),
            "w2g16".parse::<Scheme>().unwrap(),
        )
        .unwrap();
    let loaded = open(&dir).unwrap();
    // It came while the model was being computed.
    let target = parent.path().join("packed");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("thesis.tex"), "mine").unwrap();
    for name in ["packed.rescued", "packed.rescued-2"] {
        let failed = loaded.save_packed_or_rescue(&packed, &target, true);
        let error = failed.unwrap_err().to_string();
        let rescued = parent.path().join(name);
        let place = format!("the model was saved to {}", rescued.display());
        assert!(
            error.contains("thesis.tex") && error.contains(&place),
            "{error}"
        );
        assert_eq!(logits(&open(&rescued).unwrap().model), logits(&packed));
    }
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    loaded
        .save_packed_or_rescue(&packed, &parent.path().join("free"), false)
        .unwrap();
}
