//! What the fuzz targets share: a small checkpoint, one file of which comes from the fuzzer.

/// The tests' own writer of PyTorch files.
#[path = "../tests/src/pickle.rs"]
pub mod pickle;

use burn::tensor::Device;
use llama::LoadedLlama;
use std::fs;
use std::path::Path;

/// A model of one block, of 16 wide, that reads in no time.
pub const CONFIG: &str = r#"{
    "model_type": "qwen3", "vocab_size": 8, "hidden_size": 16, "intermediate_size": 32,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": true"#;

/// Tensors of the model: name and shape.
const TENSORS: [(&str, &[usize]); 13] = [
    ("model.embed_tokens.weight", &[8, 16]),
    ("model.norm.weight", &[16]),
    ("model.layers.0.input_layernorm.weight", &[16]),
    ("model.layers.0.post_attention_layernorm.weight", &[16]),
    ("model.layers.0.self_attn.q_proj.weight", &[16, 16]),
    ("model.layers.0.self_attn.k_proj.weight", &[8, 16]),
    ("model.layers.0.self_attn.v_proj.weight", &[8, 16]),
    ("model.layers.0.self_attn.o_proj.weight", &[16, 16]),
    ("model.layers.0.self_attn.q_norm.weight", &[8]),
    ("model.layers.0.self_attn.k_norm.weight", &[8]),
    ("model.layers.0.mlp.gate_proj.weight", &[32, 16]),
    ("model.layers.0.mlp.up_proj.weight", &[32, 16]),
    ("model.layers.0.mlp.down_proj.weight", &[16, 32]),
];

/// A safetensors file of the model, dense in f32, or its matrices packed in 4 bits with groups of 16.
pub fn weights(packed: bool) -> Vec<u8> {
    let (mut header, mut offset) = (Vec::new(), 0);
    let mut add = |name: String, dtype: &str, shape: &[usize], size: usize| {
        let end = offset + size * shape.iter().product::<usize>();
        let shape: Vec<_> = shape.iter().map(usize::to_string).collect();
        let shape = shape.join(",");
        header.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{offset},{end}]}}"#
        ));
        offset = end;
    };
    for (name, shape) in TENSORS {
        match (packed, name.strip_suffix("_proj.weight"), shape) {
            (true, Some(layer), [n, k]) => {
                add(format!("{layer}_proj.qweight"), "I32", &[k / 8, *n], 4);
                add(format!("{layer}_proj.qzeros"), "I32", &[k / 16, n / 8], 4);
                add(format!("{layer}_proj.scales"), "F16", &[k / 16, *n], 2);
                add(format!("{layer}_proj.g_idx"), "I32", &[*k], 4);
            }
            _ => add(name.to_string(), "F32", shape, 4),
        }
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.resize(file.len() + offset, 0);
    file
}

/// The model's tensors for a PyTorch file: name, shape, values.
pub fn tensors() -> Vec<pickle::Named> {
    let tensors = TENSORS.into_iter();
    tensors
        .map(|(name, shape)| {
            let values = vec![0.5; shape.iter().product()];
            (name.to_string(), shape.to_vec(), values)
        })
        .collect()
}

/// Opens a directory of these files, both ways; whatever is wrong has to be an error.
pub fn open(files: &[(&str, &[u8])]) {
    // In memory, where the system has such a place.
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    };
    let dir = dir.unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let device = Device::flex();
    let whole = LoadedLlama::open(dir.path(), &device);
    let by_block = LoadedLlama::open_by_block(dir.path(), &device);
    // PyTorch files have a checksum of each tensor, which is seen when a block is read.
    let pickled = files.iter().any(|(name, _)| name.ends_with(".bin"));
    let late = pickled && whole.is_err();
    assert!(whole.is_ok() == by_block.is_ok() || late);
}
