use std::path::{Path, PathBuf};

/// The directory of the bundled model, beside the sources of this package. It does not depend on the current
/// directory.
pub(super) fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-stories")
}

/// The evaluation text of the bundled model.
pub(super) fn eval_text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/eval.txt")
}
