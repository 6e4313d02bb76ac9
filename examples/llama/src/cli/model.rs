use crate::error::Error;
use std::path::PathBuf;

/// The directory of `--model`, or of the bundled model. If there is no such directory, `--model` may be a name
/// on the hub.
pub(super) fn resolve(model: Option<PathBuf>) -> Result<PathBuf, Error> {
    let Some(model) = model else {
        return Ok(super::bundled::model_dir());
    };
    match model.to_str().filter(|name| is_hub_name(name)) {
        Some(name) if !model.exists() => hub(name),
        _ => Ok(model),
    }
}

/// Whether a path may be the name of a model on the hub, `org/name`.
fn is_hub_name(path: &str) -> bool {
    let valid = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(known) && part.chars().any(char::is_alphanumeric)
    };
    matches!(path.split_once('/'), Some((org, name)) if valid(org) && valid(name))
}

#[cfg(feature = "hub")]
fn hub(name: &str) -> Result<PathBuf, Error> {
    crate::hub::fetch(name)
}

#[cfg(not(feature = "hub"))]
fn hub(name: &str) -> Result<PathBuf, Error> {
    let message =
        "no such directory (to name a model on the hub, build with the cargo feature hub)";
    Err(Error::input(name.as_ref(), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_have_two_parts() {
        for name in ["meta-llama/Llama-3.2-1B", "a/b", "Qwen/Qwen2.5-0.5B"] {
            assert!(is_hub_name(name), "{name}");
        }
        for path in ["model", "a/b/c", "/a", "a/", "./a", "../a", "a b/c", ""] {
            assert!(!is_hub_name(path), "{path}");
        }
    }
}
