//! Checkpoint directories for other programs.

use super::error::FileError;
use super::gptq::gptq_entry;
use super::json::write_json;
use super::layout::{Role, packed_name};
use super::parameters::{each_parameter, view};
use super::save::write_config;
use super::schemes::PackedSchemes;
use super::shards::ShardWriter;
use super::staged::StagedDir;
use super::view::{Floats, TensorView};
use crate::module::packed_weights;
use burn::module::Module;
use burn::tensor::{DType, TensorData};
use serde_json::Value;
use std::collections::HashMap;

/// The largest number in f16.
const F16_MAX: f32 = 65504.0;

/// The most bytes of a file; larger checkpoints are split into several files.
const SHARD: u64 = 5_000_000_000;

/// Writes a packed module as a GPTQ checkpoint of version 2, for GPTQModel, transformers and vLLM. It has this
/// project's words, step sizes and biases of packed layers in f16, the group of each row, and the scheme in
/// `config.json` and `quantize_config.json`. Other floats are written in `dtype` if that loses nothing, else
/// in f32.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{DType, Device};
/// use burn_eqat::files::{Checkpoint, Format, StagedDir, export_gptq};
/// use burn_eqat::{Quantize, Scheme, Weights};
/// use serde_json::json;
///
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("model");
/// let scheme: Scheme = "w4g32".parse()?;
/// let new = || -> Linear { LinearConfig::new(64, 32).init(&Device::flex()) };
/// let packed = new().quantize_rtn(&Weights::linears(), scheme)?;
///
/// let staged = StagedDir::begin(&dir, false)?;
/// export_gptq(&packed, &json!({"model_type": "linear"}), DType::F16, &staged)?;
/// staged.commit()?;
///
/// let (_, format) = Checkpoint::open(&dir)?.scheme(&new())?.expect("it is packed");
/// assert_eq!(format, Format::GptqV2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When nothing is packed, a side of a packed weight is not a multiple of 32, as GPTQ readers require, step
/// sizes do not fit in f16, a tensor cannot be read from its device, or a file cannot be written.
pub fn export_gptq<M: Module>(
    module: &M,
    config: &Value,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), FileError> {
    let path = staged.path();
    let weights: HashMap<_, _> = packed_weights(module).into_iter().collect();
    let Some(schemes) = PackedSchemes::of(module) else {
        return Err(FileError::invalid(path, "the model has no packed weights"));
    };
    let mut files = ShardWriter::new(path, SHARD);
    each_parameter(module, path, |slot, data| {
        let layer = slot.name.rsplit_once('.').map_or("", |(layer, _)| layer);
        let mut floats = Floats::Lossless(dtype);
        if slot.role == Role::Scales {
            let weight = &weights[&slot.path].weight;
            let (k, [groups, n]) = (weight.d_input, weight.scales.dims());
            if !k.is_multiple_of(32) || !n.is_multiple_of(32) {
                let message = format!("has {k} inputs and {n} outputs, GPTQ needs multiples of 32");
                return Err(FileError::tensor(path, &slot.path, message));
            }
            if !data.iter::<f32>().all(half_fits) {
                let message = "has step sizes that do not fit in 16 bits, which GPTQ needs";
                return Err(FileError::tensor(path, &slot.path, message));
            }
            floats = Floats::Rounded(DType::F16);
            let rows = k / groups;
            let of_rows: Vec<i32> = (0..k).map(|row| (row / rows) as i32).collect();
            let of_rows = TensorView::new(TensorData::new(of_rows, [k]));
            files.push(
                packed_name(&slot.path, "g_idx"),
                of_rows.expect("it is of 32 bits"),
            )?;
        }
        let packed_bias =
            slot.name.ends_with(".bias") && weights.contains_key(&format!("{layer}.weight"));
        let in_range = || data.iter::<f32>().all(|bias| bias.abs() <= F16_MAX);
        if packed_bias && in_range() {
            floats = Floats::Rounded(DType::F16);
        }
        let view = view(path, &slot, data, floats)?;
        files.push(slot.name, view)
    })?;
    files.finish()?;
    let entry = gptq_entry(&schemes);
    write_json(&path.join("quantize_config.json"), &entry)?;
    write_config(config, Some(entry), path)
}

/// Whether a step size is finite and not zero in f16.
fn half_fits(scale: f32) -> bool {
    /// Half of the smallest f16 number, which is rounded to zero.
    const LEAST: f32 = 2.98e-8;
    scale.abs() > LEAST && scale.abs() < F16_MAX
}

/// Writes a module as a dense checkpoint with its floats in `dtype`. Packed weights are dequantized one at a
/// time.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{DType, Device};
/// use burn_eqat::files::{Checkpoint, StagedDir, export_dense};
/// use burn_eqat::{Quantize, Scheme, Weights};
/// use serde_json::json;
///
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("model");
/// let scheme: Scheme = "w4g32".parse()?;
/// let new = || -> Linear { LinearConfig::new(64, 32).init(&Device::flex()) };
/// let packed = new().quantize_rtn(&Weights::linears(), scheme)?;
///
/// let staged = StagedDir::begin(&dir, false)?;
/// export_dense(&packed, &json!({"model_type": "linear"}), DType::BF16, &staged)?;
/// staged.commit()?;
///
/// let checkpoint = Checkpoint::open(&dir)?;
/// assert_eq!(checkpoint.bytes(), 2 * (64 * 32 + 32));
/// assert!(checkpoint.scheme(&new())?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a tensor cannot be read from its device or a file cannot be written.
pub fn export_dense<M: Module>(
    module: &M,
    config: &Value,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), FileError> {
    let path = staged.path();
    let weights: HashMap<_, _> = packed_weights(module).into_iter().collect();
    let mut files = ShardWriter::new(path, SHARD);
    each_parameter(module, path, |slot, data| {
        let floats = Floats::Rounded(dtype);
        match slot.role {
            Role::Codes | Role::ZeroPoints => Ok(()),
            Role::Scales => {
                let weight = &weights[&slot.path].weight;
                let mut slot = slot;
                slot.name.clone_from(&slot.path);
                slot.role = Role::Transposed;
                let dense = weight
                    .dequantize()
                    .map_err(|error| FileError::tensor(path, &slot.path, error.to_string()))?
                    .into_data();
                let view = view(path, &slot, dense, floats)?;
                files.push(slot.name, view)
            }
            _ => {
                let view = view(path, &slot, data, floats)?;
                files.push(slot.name, view)
            }
        }
    })?;
    files.finish()?;
    let mut config = config.clone();
    if let Value::Object(fields) = &mut config {
        let name = match dtype {
            DType::BF16 => "bfloat16",
            DType::F16 => "float16",
            _ => "float32",
        };
        let key = if fields.contains_key("dtype") {
            "dtype"
        } else {
            "torch_dtype"
        };
        fields.insert(key.to_string(), name.into());
    }
    write_config(&config, None, path)
}
