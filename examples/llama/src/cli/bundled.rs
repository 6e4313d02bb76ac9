use std::path::{Path, PathBuf};

/// Where the small model lies that comes with this package: beside its sources, wherever the program
/// is started from.
pub(super) fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-stories")
}

/// The evaluation text that goes with it.
pub(super) fn eval_text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/eval.txt")
}
