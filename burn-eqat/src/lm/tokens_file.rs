use super::{LmError, TokenWindows};
use crate::files::FileError;
use burn::store::{ModuleStore, SafetensorsStore, bridge};
use burn::tensor::DType;
use std::fs::File;
use std::path::Path;

/// Reads windows from a tensor of a safetensors file, i32 `[samples, seq_len]`.
///
/// # Errors
///
/// When the tensor is missing, empty or not of that form, or a token is not in the vocabulary.
pub fn read_tokens(path: &Path, tensor: &str, vocab_size: usize) -> Result<TokenWindows, LmError> {
    File::open(path).map_err(FileError::io(path))?;
    let wrong = |message: String| LmError::from(FileError::tensor(path, tensor, message));
    let mut store = SafetensorsStore::from_file(path);
    let stored = store
        .get_tensor(tensor)
        .map_err(|error| FileError::invalid(path, format!("not a safetensors file: {error}")))?
        .ok_or_else(|| wrong("missing".to_string()))?;
    let shape = stored.shape.as_slice().to_vec();
    let [_, seq_len] = shape[..] else {
        return Err(wrong(format!(
            "has shape {shape:?}, expected [samples, seq_len]"
        )));
    };
    if stored.dtype != DType::I32 || seq_len < 2 {
        let dtype = stored.dtype;
        return Err(wrong(format!(
            "holds {dtype:?} {shape:?}, expected i32 of 2 tokens or more"
        )));
    }
    let data = bridge::to_data(stored).map_err(|error| wrong(format!("{error:?}")))?;
    let windows = TokenWindows::new(data.iter::<i32>().collect(), seq_len);
    if windows.is_empty() {
        return Err(wrong("holds no window".to_string()));
    }
    windows.check_vocabulary(vocab_size, &format!("{}: tensor {tensor}", path.display()))?;
    Ok(windows)
}
