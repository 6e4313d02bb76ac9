//! Finds the files of a directory that have the tensors.

use super::error::FileError;
use super::json::read_json;
use super::tensor_file::{Located, locate};
use std::collections::BTreeMap;
use std::path::Path;

/// Weight files, or their indexes, in order of preference.
const WEIGHTS: [&str; 4] = [
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

/// The tensors of a directory, by name.
pub(super) fn locate_all(dir: &Path) -> Result<BTreeMap<String, Located>, FileError> {
    let mut candidates = WEIGHTS.iter().map(|name| dir.join(name));
    match candidates.find(|path| path.exists()) {
        Some(path) if path.extension().is_some_and(|kind| kind == "json") => {
            locate_shards(dir, &path)
        }
        Some(path) => locate(&path),
        // The error names the usual file.
        None => locate(&dir.join("model.safetensors")),
    }
}

/// The tensors of the files of an index. From each file, only the tensors that the index lists.
fn locate_shards(dir: &Path, index: &Path) -> Result<BTreeMap<String, Located>, FileError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = read_json(index)?;
    let mut files: BTreeMap<&str, BTreeMap<String, Located>> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, file) in &weight_map {
        if Path::new(file).file_name() != Some(file.as_ref()) {
            let message = format!("weight_map names {file:?}, expected a file of the directory");
            return Err(FileError::invalid(index, message));
        }
        if !files.contains_key(file.as_str()) {
            files.insert(file, locate(&dir.join(file))?);
        }
        let tensor = files[file.as_str()].get(name).ok_or_else(|| {
            let message = format!("missing, though {} names it", index.display());
            FileError::tensor(&dir.join(file), name, message)
        })?;
        tensors.insert(name.clone(), tensor.clone());
    }
    Ok(tensors)
}
