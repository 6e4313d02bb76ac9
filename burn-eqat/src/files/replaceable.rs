//! Decides whether a directory may be replaced.

use super::error::FileError;
use super::side_files::SIDE_FILES;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of a checkpoint besides its weights and [`SIDE_FILES`].
const OTHERS: [&str; 10] = [
    "config.json",
    "quantize_config.json",
    "quant_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "vocab.txt",
    "tokenizer.config.json",
    "chat_template.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
];

/// The entries of a directory. Fails unless all of them are files of a checkpoint.
///
/// A README or a license does not count: somebody may have written it.
pub(super) fn checkpoint_files(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(FileError::io(dir))? {
        let entry = entry.map_err(FileError::io(dir))?;
        let kind = entry.file_type().map_err(FileError::io(dir))?;
        // The hub's cache has links to files, which may be removed like files.
        let is_file = kind.is_file() || (kind.is_symlink() && entry.path().is_file());
        if !is_file || !is_known(&entry.file_name()) {
            return Err(FileError::Foreign {
                path: dir.to_path_buf(),
                entry: entry.file_name().to_string_lossy().into_owned(),
            });
        }
        files.push(entry.path());
    }
    files.sort();
    Ok(files)
}

fn is_known(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let weights = [("model", ".safetensors"), ("pytorch_model", ".bin")];
    SIDE_FILES.contains(&name)
        || OTHERS.contains(&name)
        || weights.iter().any(|(stem, extension)| {
            let rest = name.strip_prefix(stem);
            let middle = rest.and_then(|rest| rest.strip_suffix(extension));
            middle.is_some_and(is_shard)
        })
}

/// Whether the part of a name between `model` and `.safetensors` is empty, or like `-00001-of-00002`.
fn is_shard(middle: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = middle
        .strip_prefix('-')
        .map(|rest| rest.split("-of-").collect::<Vec<_>>());
    match numbers {
        None => middle.is_empty(),
        Some(parts) => parts.len() <= 2 && parts.into_iter().all(digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_checkpoints_are_known() {
        for name in [
            "config.json",
            "model.safetensors",
            "model-00001-of-00012.safetensors",
            "model-00001.safetensors",
            "pytorch_model-00001-of-00002.bin",
            "tokenizer.json",
            "merges.txt",
        ] {
            assert!(is_known(OsStr::new(name)), "{name}");
        }
        for name in [
            "README.md",
            "LICENSE",
            "main.rs",
            "model.rs",
            "my-model.safetensors",
            "model-final.safetensors",
            "model-1-of-2-of-3.safetensors",
            ".git",
            "",
        ] {
            assert!(!is_known(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_first_foreign_entry_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        assert_eq!(checkpoint_files(dir.path()).unwrap().len(), 1);
        // A folder is never part of a checkpoint.
        fs::create_dir(dir.path().join("tokenizer.json")).unwrap();
        let error = checkpoint_files(dir.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}
