//! What a safetensors file says of itself, beside its tensors.

use super::error::FileError;
use safetensors::tensor::Metadata;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// An entry of a file's metadata, which is JSON. `expected` says in errors what kind of file has it.
pub(crate) fn read_metadata<T: DeserializeOwned>(
    path: &Path,
    name: &str,
    expected: &str,
) -> Result<T, FileError> {
    let header = read_header(path).map_err(FileError::io(path))?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| FileError::invalid(path, format!("not a safetensors file: {error}")))?;
    let entry = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(name));
    let Some(entry) = entry else {
        let message = format!("has no {name:?} entry, expected {expected}");
        return Err(FileError::invalid(path, message));
    };
    serde_json::from_str(entry)
        .map_err(|error| FileError::invalid(path, format!("{name} entry: {error}")))
}

/// The JSON header of a safetensors file.
fn read_header(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    /// The limit of safetensors readers.
    const MOST: u64 = 100_000_000;
    let mut header = Vec::new();
    let length = u64::from_le_bytes(length).min(MOST);
    file.take(length).read_to_end(&mut header)?;
    Ok(header)
}
