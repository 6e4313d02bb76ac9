use super::{LmError, TokenWindows};
use crate::files::FileError;
use burn::store::{ModuleStore, SafetensorsStore, bridge};
use burn::tensor::DType;
use safetensors::{Dtype, tensor::TensorView};
use std::fs::File;
use std::path::Path;

/// Reads windows from a tensor of a safetensors file, i32 `[samples, seq_len]`.
///
/// ```
/// use burn_eqat::lm::{TokenWindows, read_tokens, save_tokens};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("windows.safetensors");
/// # save_tokens(&path, &[("train", &TokenWindows::new((0..40).collect(), 8))])?;
/// let windows = read_tokens(&path, "train", 40)?;
/// assert_eq!((windows.len(), windows.seq_len()), (5, 8));
/// // Token 39 is not in a vocabulary of 39.
/// assert!(read_tokens(&path, "train", 39).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the tensor is missing, empty, or of another shape or type, or a token is not in the vocabulary.
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

/// Writes windows to a safetensors file, by the names of their tensors, as [`read_tokens`] reads them.
///
/// ```
/// use burn_eqat::lm::{TokenWindows, read_tokens, save_tokens};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("windows.safetensors");
/// let windows = TokenWindows::new((0..40).collect(), 8);
/// save_tokens(&path, &[("train", &windows)])?;
/// assert_eq!(read_tokens(&path, "train", 40)?, windows);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the file cannot be written.
pub fn save_tokens(path: &Path, tensors: &[(&str, &TokenWindows)]) -> Result<(), FileError> {
    let bytes = |windows: &TokenWindows| -> Vec<u8> {
        let tokens = windows.tokens().iter();
        tokens.flat_map(|token| token.to_le_bytes()).collect()
    };
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, windows)| bytes(windows)).collect();
    let mut views = Vec::new();
    for ((name, windows), bytes) in tensors.iter().zip(&bytes) {
        let shape = vec![windows.len(), windows.seq_len()];
        let view = TensorView::new(Dtype::I32, shape, bytes);
        views.push((
            *name,
            view.map_err(|error| FileError::invalid(path, error))?,
        ));
    }
    safetensors::serialize_to_file(views, None, path)
        .map_err(|error| FileError::invalid(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{Calibration, CalibrationSizes};
    use safetensors::serialize_to_file;
    use std::path::PathBuf;

    /// A file with tensors of i32, by name and shape; token `i` of each is `i % 10`.
    fn file(dir: &Path, tensors: &[(&str, &[usize])]) -> PathBuf {
        let path = dir.join("tokens.safetensors");
        let bytes: Vec<Vec<u8>> = (tensors.iter())
            .map(|(_, shape)| {
                let tokens = 0..shape.iter().product::<usize>() as i32;
                tokens.flat_map(|i| (i % 10).to_le_bytes()).collect()
            })
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape), bytes)| {
            let view = TensorView::new(Dtype::I32, shape.to_vec(), bytes).unwrap();
            (name.to_string(), view)
        });
        serialize_to_file(views, None, &path).unwrap();
        path
    }

    #[test]
    fn tensors_of_another_form_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(
            dir.path(),
            &[
                ("good", &[3, 4]),
                ("flat", &[4]),
                ("short", &[4, 1]),
                ("none", &[0, 4]),
            ],
        );
        let windows = read_tokens(&path, "good", 10).unwrap();
        assert_eq!(
            (windows.len(), windows.window(1)),
            (3, [4, 5, 6, 7].as_slice())
        );
        for (tensor, vocab_size, message) in [
            (
                "flat",
                10,
                "tensor flat: has shape [4], expected [samples, seq_len]",
            ),
            (
                "short",
                10,
                "tensor short: holds I32 [4, 1], expected i32 of 2 tokens or more",
            ),
            ("none", 10, "tensor none: holds no window"),
            ("absent", 10, "tensor absent: missing"),
            ("good", 9, "tensor good: token 9 at position 1 of window 2"),
        ] {
            let error = read_tokens(&path, tensor, vocab_size)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(&format!("tokens.safetensors: {message}")),
                "{error}"
            );
        }
    }

    #[test]
    fn only_what_is_asked_for_has_to_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), &[("e2e", &[5, 3]), ("eval", &[2, 3])]);
        let mut sizes = CalibrationSizes {
            train: 0,
            valid: 0,
            e2e: 4,
        };
        let data = Calibration::from_tokens(&path, sizes, 10).unwrap();
        assert_eq!(
            (data.used(), data.eval.len(), data.available),
            (sizes, 2, 7)
        );
        sizes.e2e = 6;
        let error = Calibration::from_tokens(&path, sizes, 10)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tensor e2e: has 5 windows, expected 6 or more"),
            "{error}"
        );
        sizes.e2e = 0;
        sizes.train = 1;
        let error = Calibration::from_tokens(&path, sizes, 10)
            .unwrap_err()
            .to_string();
        assert!(error.contains("tensor calib: missing"), "{error}");
    }
}
