use super::error::FileError;
use std::fs;
use std::path::Path;

/// Files of a checkpoint that do not depend on its weights.
pub(super) const SIDE_FILES: [&str; 12] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
];

/// Copies the tokenizer and similar files from one checkpoint directory to another.
///
/// ```
/// use burn_eqat::files::copy_side_files;
///
/// # let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # let (from, to) = (from.path(), to.path());
/// # std::fs::write(from.join("tokenizer.json"), "{}")?;
/// copy_side_files(from, to)?;
/// assert!(to.join("tokenizer.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When an existing file cannot be copied.
pub fn copy_side_files(from: &Path, to: &Path) -> Result<(), FileError> {
    for name in SIDE_FILES {
        let source = from.join(name);
        if source.exists() {
            // Copies only the contents: a read-only original must not make a read-only copy.
            let bytes = fs::read(&source).map_err(FileError::io(&source))?;
            let target = to.join(name);
            fs::write(&target, bytes).map_err(FileError::io(&target))?;
        }
    }
    Ok(())
}
