//! Files of adapters that are damaged, or something else.

use super::small::{SCALES, packed, trained};
use burn_eqat::Quantize;
use burn_eqat::adapter::{Adapter, AdapterError};
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The bytes of a good file.
fn good() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter.safetensors");
    let base = packed(1, "w2g16");
    let tuned = trained(&base, 2, &["up.weight", "down.weight", "norm.gamma"]);
    let adapter = Adapter::between(&base, &tuned.round_scales()).unwrap();
    adapter.save(&path).unwrap();
    fs::read(path).unwrap()
}

fn load(bytes: &[u8]) -> Result<Adapter, AdapterError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter.safetensors");
    fs::write(&path, bytes).unwrap();
    Adapter::load(&path)
}

/// A tensor: its name, type, shape and bytes.
type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// The file with other tensors, or another entry.
fn changed(change: impl FnOnce(&mut Vec<Tensor>, &mut HashMap<String, String>)) -> Vec<u8> {
    let bytes = good();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let mut tensors: Vec<Tensor> = tensors
        .map(|(name, view)| {
            let shape = view.shape().to_vec();
            (name, view.dtype(), shape, view.data().to_vec())
        })
        .collect();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut entries = header.metadata().clone().unwrap();
    change(&mut tensors, &mut entries);
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize(views, Some(entries)).unwrap()
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let fails = |bytes: &[u8], expected: &str| {
        let error = load(bytes).unwrap_err().to_string();
        assert!(error.contains("adapter.safetensors: "), "{error}");
        assert!(error.contains(expected), "{error}");
    };
    let scales = |change: fn(&mut Tensor)| {
        changed(|tensors, _| change(tensors.iter_mut().find(|t| t.0 == "scales").unwrap()))
    };
    load(&changed(|_, _| {})).unwrap();
    fails(
        &scales(|(_, _, shape, bytes)| {
            shape[0] -= 1;
            bytes.truncate(2 * shape[0]);
        }),
        "tensor scales: has 110 step sizes, expected more: there are none for up.weight",
    );
    fails(
        &scales(|(_, _, shape, bytes)| {
            shape[0] += 2;
            bytes.extend([0; 4]);
        }),
        "tensor scales: has 113 step sizes, expected 111: 2 are of no weight",
    );
    fails(
        // An infinity.
        &scales(|(_, _, _, bytes)| bytes[..2].copy_from_slice(&[0x00, 0x7c])),
        "tensor scales: holds inf at 0, expected finite numbers",
    );
    fails(
        &scales(|(_, dtype, ..)| *dtype = Dtype::I16),
        "tensor scales: holds I16, expected floats",
    );
    fails(
        &scales(|(_, dtype, ..)| *dtype = Dtype::BF16),
        "tensor scales: holds BF16, expected F16 or F32",
    );
    fails(
        &scales(|(name, ..)| *name = "parameter.a".into()),
        "tensor scales: missing",
    );
    let norm = |change: fn(&mut Tensor)| {
        changed(|tensors, _| change(tensors.iter_mut().find(|t| t.0 != "scales").unwrap()))
    };
    fails(
        &norm(|(name, ..)| *name = "norm.gamma".into()),
        "tensor norm.gamma: expected scales",
    );
    fails(
        &norm(|(name, ..)| *name = "parameter.up.weight".into()),
        "tensor parameter.up.weight: is a packed weight",
    );
    let entry = |from: &'static str, to: &'static str| {
        changed(|_, entries| {
            let entry = entries.get_mut("burn-eqat-adapter").unwrap();
            assert!(entry.contains(from), "{entry}");
            *entry = entry.replace(from, to);
        })
    };
    fails(
        &entry("\"version\":1", "\"version\":2"),
        "has version 2 of the format, expected 1",
    );
    fails(&entry("w2g16 32x48", "w9g16 32x48"), "is no packed weight");
    fails(&entry("w2g16 32x48", "w2g16 33x48"), "has no whole groups");
    fails(
        &entry("w2g16 32x48", "w2g16 32x99999999999999999"),
        "has 111 step sizes",
    );
    fails(
        &changed(|_, entries| entries.clear()),
        "has no \"burn-eqat-adapter\" entry, expected a file of step sizes",
    );
    fails(b"nonsense", "");
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("adapter.safetensors");
    packed(1, "w2g16").save(&model).unwrap();
    fails(&fs::read(model).unwrap(), "expected a file of step sizes");
    let error = Adapter::load("/no/such.safetensors")
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/no/such.safetensors: "), "{error}");
}

#[test]
fn an_adapter_of_another_model_says_which_file_it_is() {
    let error = load(&good())
        .unwrap()
        .apply(packed(5, "w2g16"))
        .unwrap_err()
        .to_string();
    let expected = "adapter.safetensors: is an adapter of another packed model: down.weight has codes with checksum ";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = Adapter::of(&trained(&packed(1, "w2g16"), 2, &SCALES)).unwrap();
    let path = dir.path().join("adapter.safetensors");
    fs::write(&path, "old").unwrap();
    adapter.save(&path).unwrap();
    Adapter::load(&path).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // The same bytes each time.
    let first = fs::read(&path).unwrap();
    adapter.save(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    let error = adapter
        .save(Path::new("/no/such/adapter.safetensors"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/no/such"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// An error or an adapter, never a panic.
    #[test]
    fn damaged_files_do_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = good();
        let at = at.index(bytes.len());
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] = byte,
        }
        if let Ok(adapter) = load(&bytes) {
            let _ = adapter.apply(packed(1, "w2g16"));
        }
    }
}
