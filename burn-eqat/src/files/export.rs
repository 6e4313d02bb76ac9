//! Checkpoint directories for others.

use super::layout::{Role, packed_name};
use super::save::{each_parameter, view, write_config, write_json};
use super::shards::ShardWriter;
use super::view::{Floats, TensorView};
use super::{FileError, StagedDir};
use crate::module::packed_weights;
use crate::{GroupSize, Scheme};
use burn::module::Module;
use burn::tensor::{DType, TensorData};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The largest number in f16.
const F16_MAX: f32 = 65504.0;

/// Bytes of a file at most; larger checkpoints are cut into several.
const SHARD: u64 = 5_000_000_000;

/// Writes a packed module as a GPTQ checkpoint of the second version, as GPTQModel, transformers and vLLM
/// read them: this project's words, step sizes and biases of packed layers in f16, the group of each row, and
/// the scheme in `config.json` and `quantize_config.json`. Other floats are written in `dtype` where that
/// loses nothing, else in f32.
///
/// # Errors
///
/// When nothing is packed, a side of a packed weight is no multiple of 32, which those readers ask for, a
/// tensor cannot be read from its device, or a file cannot be written.
pub fn export_gptq<M: Module>(
    module: &M,
    config: &Value,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), FileError> {
    let path = staged.path();
    let weights: HashMap<_, _> = packed_weights(module).into_iter().collect();
    let mut schemes = weights.values().map(|weight| weight.scheme);
    let Some(scheme) = schemes.next() else {
        return Err(FileError::invalid(path, "the model has no packed weights"));
    };
    if let Some(other) = schemes.find(|other| *other != scheme) {
        let message =
            format!("the model has weights in {scheme} and in {other}, expected one scheme");
        return Err(FileError::invalid(path, message));
    }
    let mut files = ShardWriter::new(path, SHARD);
    each_parameter(module, path, |slot, data| {
        let layer = slot.name.rsplit_once('.').map_or("", |(layer, _)| layer);
        if slot.role == Role::Scale {
            let weight = &weights[&slot.path];
            let (k, [groups, n]) = (weight.d_input, weight.scales.dims());
            if !k.is_multiple_of(32) || !n.is_multiple_of(32) {
                let message = format!("has {k} inputs and {n} outputs, GPTQ needs multiples of 32");
                return Err(FileError::tensor(path, &slot.path, message));
            }
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
        let floats = match packed_bias && in_range() {
            true => Floats::Rounded(DType::F16),
            false => Floats::Lossless(dtype),
        };
        let view = view(path, &slot, data, floats)?;
        files.push(slot.name, view)
    })?;
    files.finish()?;
    let entry = gptq_entry(scheme);
    write_json(&path.join("quantize_config.json"), &entry)?;
    write_config(config, Some(entry), path)
}

/// What readers of GPTQ checkpoints look for.
fn gptq_entry(scheme: Scheme) -> Value {
    let group = match scheme.group {
        GroupSize::Rows(rows) => rows.get() as i64,
        GroupSize::Column => -1,
    };
    json!({
        "quant_method": "gptq",
        "checkpoint_format": "gptq_v2",
        "format": "gptq_v2",
        "bits": scheme.bits.get(),
        "group_size": group,
        "desc_act": false,
        "sym": scheme.symmetric,
        "lm_head": false,
        "pack_dtype": "int32",
        "meta": {"quantizer": [concat!("burn-eqat:", env!("CARGO_PKG_VERSION"))]},
    })
}

/// Writes a module as a dense checkpoint with its floats in `dtype`, packed weights dequantized one at a time.
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
            Role::Codes | Role::Zeros => Ok(()),
            Role::Scale => {
                let weight = &weights[&slot.path];
                let mut slot = slot;
                slot.name.clone_from(&slot.path);
                slot.role = Role::Transposed;
                let dense = weight.dequantize().into_data();
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
