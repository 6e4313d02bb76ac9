//! Models of the Hugging Face hub, kept in its cache.

use crate::error::Error;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::path::{Path, PathBuf};

/// Files of a model besides its weights; config.json is required.
const FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "quantize_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// The directory of a model by its name, `org/name`. Downloads the files that are not in the cache. If the hub
/// cannot be reached, uses the cache alone. Respects `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT`.
///
/// # Errors
///
/// When the model is neither on the hub nor in the cache, or has no weights in safetensors or PyTorch files.
pub fn fetch(name: &str) -> Result<PathBuf, Error> {
    let repo = Repo::new(name.to_string(), RepoType::Model);
    let cached = Cache::from_env().repo(repo.clone());
    let failed = |error: ApiError| {
        let message = format!("the hub has no such model, or cannot be reached: {error}");
        Error::input(Path::new(name), message)
    };
    let mut builder = ApiBuilder::from_env();
    if let Ok(token) = std::env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let api: Api = builder.build().map_err(failed)?;
    let remote = api.repo(repo);
    match remote.info() {
        Ok(info) => {
            let files = info.siblings.into_iter().map(|file| file.rfilename);
            download(name, &remote, files.collect())
        }
        // Offline, or the model is gone: the cache may have all of it.
        Err(error) => from_cache(&cached).ok_or_else(|| failed(error)),
    }
}

/// Downloads the missing files of a model.
fn download(name: &str, remote: &ApiRepo, files: Vec<String>) -> Result<PathBuf, Error> {
    let missing = |what: &str| {
        let message = format!("the model has no {what} on the hub");
        Error::input(Path::new(name), message)
    };
    if !files.iter().any(|file| file == "config.json") {
        return Err(missing("config.json"));
    }
    // Weights in a subfolder are in another format.
    let weights_of = |stem: &str, extension: &str| -> Vec<&String> {
        let named = |file: &&String| {
            let weights =
                file.ends_with(extension) || file.ends_with(&format!("{extension}.index.json"));
            !file.contains('/') && file.starts_with(stem) && weights
        };
        files.iter().filter(named).collect()
    };
    let mut weights = weights_of("model", ".safetensors");
    if weights.is_empty() {
        weights = weights_of("pytorch_model", ".bin");
    }
    if weights.is_empty() {
        return Err(missing("weights in safetensors or PyTorch files"));
    }
    let others = files.iter().filter(|file| FILES.contains(&file.as_str()));
    let mut dir = None;
    for file in others.chain(weights) {
        let path = remote
            .get(file)
            .map_err(|error| Error::input(Path::new(name), format!("{file}: {error}")))?;
        dir = path.parent().map(Path::to_path_buf);
    }
    dir.ok_or_else(|| missing("files"))
}

/// The directory of a model in the cache.
fn from_cache(cached: &CacheRepo) -> Option<PathBuf> {
    let dir = cached.get("config.json")?.parent()?.to_path_buf();
    let weights = [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ];
    weights
        .iter()
        .any(|file| dir.join(file).exists())
        .then_some(dir)
}
