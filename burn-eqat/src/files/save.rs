use super::entry::own_entry;
use super::error::FileError;
use super::json::write_json;
use super::layout::{Role, Slot, slots};
use super::parameters::{each_parameter, view};
use super::schemes::PackedSchemes;
use super::shards::ShardWriter;
use super::staged::StagedDir;
use super::view::Floats;
use burn::module::Module;
use burn::tensor::DType;
use safetensors::tensor::View;
use serde_json::Value;
use std::path::Path;

/// Writes a module's tensors and `config.json` into a staged directory.
///
/// Packed weights are written as 32-bit words of codes and zero points, and as step sizes. Step sizes are in 16
/// bits if that loses nothing ([round](crate::Quantize::round_scales) them for the smallest files), else in 32.
/// Other floats are in `dtype` if that loses nothing, else in 32 bits. If weights are packed, `config` gets a
/// `quantization_config` entry with their schemes.
///
/// # Errors
///
/// When a weight is fake-quantized, a tensor cannot be read from its device or a file cannot be written.
pub fn save_model<M: Module>(
    module: &M,
    config: &Value,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), FileError> {
    let mut file = ShardWriter::new(staged.path(), u64::MAX);
    each_parameter(module, staged.path(), |slot, data| {
        let view = view(staged.path(), &slot, data, Floats::Lossless(dtype))?;
        file.push(slot.name, view)
    })?;
    file.finish()?;
    let schemes = PackedSchemes::of(module);
    write_config(config, schemes.as_ref().map(own_entry), staged.path())
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

/// The approximate bytes of tensor data that [`save_model`] would write. Does not read the data, so parameters
/// need not have any yet.
pub fn expected_size<M: Module>(module: &M, dtype: DType) -> u64 {
    let bytes = |slot: &Slot| {
        let element = match slot.role {
            Role::Codes | Role::ZeroPoints => 4,
            Role::Scales => 2,
            Role::Integer => 8,
            Role::Bool => 1,
            // Norms and biases are small, and are in 32 bits after training.
            Role::Plain if slot.shape.num_dims() < 2 => 4,
            Role::Plain | Role::Transposed | Role::FakeQuant => dtype.size(),
        };
        (slot.shape.num_elements() * element) as u64
    };
    slots(module).iter().map(bytes).sum()
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
