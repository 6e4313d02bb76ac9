use super::error::FileError;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Reads a JSON file.
///
/// ```
/// use burn_eqat::files::read_json;
///
/// #[derive(serde::Deserialize)]
/// struct Config {
///     hidden_size: usize,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("config.json");
/// # std::fs::write(&path, r#"{"hidden_size": 64}"#)?;
/// let config: Config = read_json(&path)?;
/// assert_eq!(config.hidden_size, 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the file cannot be read, or its contents are not a `T`.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let text = fs::read_to_string(path).map_err(FileError::io(path))?;
    serde_json::from_str(&text).map_err(|error| FileError::invalid(path, error))
}

/// Writes a JSON file.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), FileError> {
    let text = serde_json::to_string_pretty(value).expect("a value is always writable");
    fs::write(path, text + "\n").map_err(FileError::io(path))
}
