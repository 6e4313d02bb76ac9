use super::layout::{Slot, slots};
use super::shards::ShardWriter;
use super::view::{Floats, TensorView};
use super::{FileError, StagedDir};
use crate::Scheme;
use burn::module::Module;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{DType, TensorData};
use safetensors::tensor::View;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The name of this project's packed format in `quantization_config.quant_method`.
pub(super) const QUANT_METHOD: &str = "burn-eqat";

/// Files beside the weights that belong to a checkpoint and do not change with its weights.
const SIDE_FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
];

/// Writes a module's tensors and `config.json` into a staged directory.
///
/// Packed weights are written as codes and zero points in 32-bit words and step sizes in 16-bit
/// floats (so [round](crate::Quantize::round_scales) them first to get back what you have); other
/// floats in `dtype` where that loses nothing, else in 32 bits. `config` is written with a
/// `quantization_config` entry where `scheme` is given, without one where it is not.
///
/// # Errors
///
/// When a tensor cannot be read from its device or a file cannot be written.
pub fn save_model<M: Module>(
    module: &M,
    config: &Value,
    scheme: Option<Scheme>,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), FileError> {
    let mut file = ShardWriter::new(staged.path(), u64::MAX);
    each_parameter(module, staged.path(), |slot, data| {
        let view = view(staged.path(), &slot, data, Floats::Lossless(dtype))?;
        file.push(slot.name, view)
    })?;
    file.finish()?;
    write_config(config, scheme.map(entry), staged.path())
}

/// Bytes of tensor data that [`save_model`] would write.
///
/// # Errors
///
/// When a tensor cannot be read from its device.
pub fn saved_size<M: Module>(module: &M, dtype: DType) -> Result<usize, FileError> {
    let mut bytes = 0;
    let path = Path::new("model.safetensors");
    each_parameter(module, path, |slot, data| {
        bytes += view(path, &slot, data, Floats::Lossless(dtype))?.data_len();
        Ok(())
    })?;
    Ok(bytes)
}

/// A parameter in the form that files have it.
pub(super) fn view(
    path: &Path,
    slot: &Slot,
    data: TensorData,
    floats: Floats,
) -> Result<TensorView, FileError> {
    TensorView::of_parameter(data, slot.role, floats)
        .map_err(|message| FileError::tensor(path, &slot.name, message))
}

/// Hands out every parameter of a module that files have, and where it goes.
pub(super) fn each_parameter<M: Module>(
    module: &M,
    path: &Path,
    mut take: impl FnMut(Slot, TensorData) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut by_path: HashMap<String, Slot> = slots(module)
        .into_iter()
        .map(|slot| (slot.path.clone(), slot))
        .collect();
    for tensor in module.collect(None, None, false) {
        let Some(slot) = by_path.remove(&tensor.name) else {
            continue;
        };
        let data = bridge::into_data(tensor)
            .map_err(|error| FileError::tensor(path, &slot.name, format!("{error:?}")))?;
        take(slot, data)?;
    }
    Ok(())
}

/// Copies the tokenizer and its like from one checkpoint directory to another.
///
/// # Errors
///
/// When a file that is there cannot be copied.
pub fn copy_side_files(from: &Path, to: &Path) -> Result<(), FileError> {
    for name in SIDE_FILES {
        let source = from.join(name);
        if source.exists() {
            // Content only: a read-only original must not make a read-only copy.
            let bytes = fs::read(&source).map_err(FileError::io(&source))?;
            let target = to.join(name);
            fs::write(&target, bytes).map_err(FileError::io(&target))?;
        }
    }
    Ok(())
}

/// What `config.json` says of this project's packed weights.
fn entry(scheme: Scheme) -> Value {
    json!({
        "quant_method": QUANT_METHOD,
        "scheme": scheme,
        "bits": scheme.bits.get(),
        "sym": scheme.symmetric,
    })
}

/// Writes `config.json` with a `quantization_config`, or without one.
pub(super) fn write_config(
    config: &Value,
    quantization: Option<Value>,
    dir: &Path,
) -> Result<(), FileError> {
    let path = dir.join("config.json");
    let mut config = config.clone();
    let Value::Object(fields) = &mut config else {
        return Err(FileError::invalid(&path, "expected an object"));
    };
    fields.remove("quantization_config");
    if let Some(entry) = quantization {
        fields.insert("quantization_config".to_string(), entry);
    }
    write_json(&path, &config)
}

/// Writes a JSON file.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), FileError> {
    let text = serde_json::to_string_pretty(value).expect("a value is always writable");
    fs::write(path, text + "\n").map_err(FileError::io(path))
}
