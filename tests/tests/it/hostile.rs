//! Files that somebody has tampered with: an error or a model, never a panic, whichever way they are
//! opened. The fuzz targets in `fuzz/` do the same for longer.

use crate::families::{Float, fixture, write};
use crate::published;
use burn::tensor::Device;
use burn_eqat::{QuantLinearConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::pickle::write_state_dict;
use llama::LoadedLlama;
use llama::model::Llama;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Checkpoints to tamper with: dense in two files, packed as GPTQ, packed without a scheme said, and dense as
/// PyTorch pickles it.
fn originals() -> &'static [PathBuf; 4] {
    static ORIGINALS: OnceLock<(tempfile::TempDir, [PathBuf; 4])> = OnceLock::new();
    let (_, dirs) = ORIGINALS.get_or_init(|| {
        let parent = tempfile::tempdir().unwrap();
        let dirs = ["dense", "packed", "bare", "pickled"].map(|name| parent.path().join(name));
        let [dense, packed, bare, pickled] = &dirs;
        fs::create_dir(dense).unwrap();
        write(dense, &model(), Float::Bf16, 2);
        let mut loaded = LoadedLlama::open(dense, &Device::flex()).unwrap();
        let scheme: Scheme = "w4g16".parse().unwrap();
        let weights = Llama::quantized_weights();
        loaded.model = loaded.model.quantize_rtn(&weights, scheme).unwrap();
        loaded.export_gptq(packed, false).unwrap();
        fs::create_dir(bare).unwrap();
        copy(packed, bare);
        fs::remove_file(bare.join("quantize_config.json")).unwrap();
        fs::copy(dense.join("config.json"), bare.join("config.json")).unwrap();
        fs::create_dir(pickled).unwrap();
        write(pickled, &model(), Float::F32, 1);
        let tensors = published::state_dict(&published::read(pickled));
        write_state_dict(&pickled.join("pytorch_model.bin"), &tensors);
        fs::remove_file(pickled.join("model.safetensors")).unwrap();
        (parent, dirs)
    });
    dirs
}

/// A model whose sides are multiples of 32.
fn model() -> Value {
    let mut model = fixture("qwen3");
    model["config"]["intermediate_size"] = json!(64);
    for (name, shape) in model["tensors"].as_object_mut().unwrap() {
        if name.contains("gate_proj") || name.contains("up_proj") {
            *shape = json!([64, 32]);
        } else if name.contains("down_proj") {
            *shape = json!([32, 64]);
        }
    }
    model
}

/// What is done to a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
}

/// Pieces of JSON and numbers, where they hurt.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "0",
        "9",
        "-",
        "null",
        "[",
        "]",
        "{}",
        "\"",
        ":",
        "1e999",
        "99999999999999999999",
    ];
    prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec())
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => any::<usize>().prop_map(Change::Cut),
        3 => (any::<usize>(), piece()).prop_map(|(at, piece)| Change::Insert(at, piece)),
    ]
}

/// Most of what is wrong is wrong at the beginning: lengths and headers.
fn place(at: usize, len: usize) -> usize {
    match at % 3 {
        0 => at / 3 % len.clamp(1, 16),
        1 => at / 3 % len.clamp(1, 2048),
        _ => at / 3 % len.max(1),
    }
}

fn tamper(bytes: &mut Vec<u8>, change: &Change) {
    let len = bytes.len();
    match change {
        Change::Byte(at, byte) if len > 0 => bytes[place(*at, len)] = *byte,
        Change::Byte(..) => {}
        Change::Cut(at) => bytes.truncate(at % (len + 1)),
        Change::Insert(at, piece) => {
            let at = place(*at, len);
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

fn copy(from: &Path, to: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(from)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.collect();
    files.sort();
    let names = files.iter().map(|file| to.join(file.file_name().unwrap()));
    let copies: Vec<PathBuf> = names.collect();
    for (file, copy) in files.iter().zip(&copies) {
        fs::copy(file, copy).unwrap();
    }
    copies
}

/// A scheme that no file says is worked out, as a whole and block by block.
#[test]
fn a_scheme_that_no_file_says_is_worked_out() {
    let (dir, device) = (&originals()[2], Device::flex());
    let whole = LoadedLlama::open(dir, &device).unwrap();
    let by_block = LoadedLlama::open_by_block(dir, &device).unwrap();
    for schemes in [whole.schemes, by_block.schemes] {
        assert_eq!(schemes.unwrap().to_string(), "w4g16");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_tampered_single_file_is_an_error_or_a_model(
        changes in prop::collection::vec(change(), 1..5),
    ) {
        let new = || QuantLinearConfig::new(16, 6).init(&Device::flex());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let scheme: Scheme = "w3g8".parse().unwrap();
        new().quantize_rtn(&Weights::matrices(), scheme).unwrap().save(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        for change in &changes {
            tamper(&mut bytes, change);
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(loaded) = new().load(&path) {
            prop_assert_eq!(loaded.shape(), [16, 6]);
        }
    }

    #[test]
    fn tampered_files_are_errors_or_models(
        original in 0usize..4,
        file in any::<usize>(),
        changes in prop::collection::vec(change(), 1..5),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let files = copy(&originals()[original], dir.path());
        let file = &files[file % files.len()];
        let mut bytes = fs::read(file).unwrap();
        for change in &changes {
            tamper(&mut bytes, change);
        }
        fs::write(file, bytes).unwrap();
        let device = Device::flex();
        let whole = LoadedLlama::open(dir.path(), &device);
        let by_block = LoadedLlama::open_by_block(dir.path(), &device);
        let errors = [whole.err(), by_block.err()].map(|error| error.map(|e| e.to_string()));
        let [whole, by_block] = [&errors[0], &errors[1]].map(Option::is_some);
        // A PyTorch file has a checksum of each tensor, which is seen when the block is read.
        let late = original == 3 && whole && !by_block;
        prop_assert!(whole == by_block || late, "{:?}", errors);
    }
}
