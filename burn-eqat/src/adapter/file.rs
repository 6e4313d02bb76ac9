//! The file of an adapter: all step sizes in one tensor, and other parameters under their paths.
//!
//! A tensor for each weight would be easier to look at. But a header of a hundred bytes for each is much beside the step sizes of a
//! small model.

use super::{Adapter, PackedBase};
use crate::files::{FileError, StagedFile, read_metadata, stored_scales};
use burn::store::{ModuleStore, SafetensorsStore, bridge};
use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The name of our entry in the file's metadata.
const ENTRY: &str = "burn-eqat-adapter";

/// The version of the file layout.
const VERSION: u32 = 1;

/// The tensor of all step sizes, `[step sizes]`: weight by weight in the order of their paths, `[groups, d_output]` of each row by
/// row.
const SCALES: &str = "scales";

/// What stands before the path of another parameter.
const PARAMETER: &str = "parameter.";

/// The entry, as JSON.
#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    base: PackedBase,
}

pub(super) fn save(adapter: &Adapter, path: &Path) -> Result<(), FileError> {
    let mut values: Vec<f32> = Vec::new();
    for (weight, scales) in &adapter.scales {
        let scales = scales.as_slice::<f32>();
        values.extend(scales.map_err(|error| FileError::tensor(path, weight, error.to_string()))?);
    }
    let len = values.len();
    let mut tensors = vec![(
        SCALES.to_string(),
        stored_scales(TensorData::new(values, [len])),
    )];
    for (name, data) in &adapter.parameters {
        tensors.push((format!("{PARAMETER}{name}"), data.clone()));
    }
    let mut views = Vec::new();
    for (name, data) in &tensors {
        let dtype = match data.dtype() {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            other => {
                let message = format!("is {other:?}, expected floats");
                return Err(FileError::tensor(path, name, message));
            }
        };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
        let view = view.map_err(|error| FileError::tensor(path, name, error.to_string()))?;
        views.push((name.as_str(), view));
    }
    let entry = Entry {
        version: VERSION,
        base: adapter.base.clone(),
    };
    let entry = serde_json::to_string(&entry).expect("names and numbers are writable");
    // One entry: two would be written in an order of chance.
    let metadata = HashMap::from([(ENTRY.to_string(), entry)]);
    let staged = StagedFile::begin(path)?;
    safetensors::serialize_to_file(views, Some(metadata), staged.path())
        .map_err(|error| FileError::invalid(path, error))?;
    staged.commit()
}

pub(super) fn load(path: &Path) -> Result<Adapter, FileError> {
    let Entry { version, base } = read_metadata(path, ENTRY, "a file of step sizes (an adapter)")?;
    if version != VERSION {
        let message = format!("has version {version} of the format, expected {VERSION}");
        return Err(FileError::invalid(path, message));
    }
    let mut tensors = read_tensors(path)?;
    let missing = || FileError::tensor(path, SCALES, "missing");
    let scales = tensors.remove(SCALES).ok_or_else(missing)?;
    let scales = split(&base, scales, path)?;
    let mut parameters = BTreeMap::new();
    for (name, data) in tensors {
        let Some(parameter) = name.strip_prefix(PARAMETER) else {
            let message = format!("expected {SCALES}, or a name that begins with {PARAMETER:?}");
            return Err(FileError::tensor(path, &name, message));
        };
        if base.weights().contains_key(parameter) {
            let message = "is a packed weight, whose step sizes are elsewhere in the file";
            return Err(FileError::tensor(path, &name, message));
        }
        parameters.insert(parameter.to_string(), data);
    }
    Ok(Adapter {
        base,
        scales,
        parameters,
        file: Some(path.to_path_buf()),
    })
}

/// The tensors of a file, all of them finite floats.
fn read_tensors(path: &Path) -> Result<BTreeMap<String, TensorData>, FileError> {
    let mut store = SafetensorsStore::from_file(path);
    let found = store
        .get_all_tensors()
        .map_err(|error| FileError::invalid(path, format!("not a safetensors file: {error}")))?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found {
        let wrong = |message: String| FileError::tensor(path, name, message);
        if !tensor.dtype.is_float() {
            return Err(wrong(format!("holds {:?}, expected floats", tensor.dtype)));
        }
        let data = bridge::to_data(tensor).map_err(|error| wrong(format!("{error:?}")))?;
        if let Some(at) = data.iter::<f64>().position(|value| !value.is_finite()) {
            let value = data.iter::<f64>().nth(at).unwrap_or(f64::NAN);
            return Err(wrong(format!(
                "holds {value} at {at}, expected finite numbers"
            )));
        }
        tensors.insert(name.clone(), data);
    }
    Ok(tensors)
}

/// The step sizes of each weight.
fn split(
    base: &PackedBase,
    scales: TensorData,
    path: &Path,
) -> Result<BTreeMap<String, TensorData>, FileError> {
    let wrong = |message: String| FileError::tensor(path, SCALES, message);
    if !matches!(scales.dtype(), DType::F16 | DType::F32) {
        let message = format!("holds {:?}, expected F16 or F32", scales.dtype());
        return Err(wrong(message));
    }
    let found = scales.shape().num_elements();
    let values: Vec<f32> = scales.iter::<f32>().collect();
    let (mut rest, mut split) = (values.as_slice(), BTreeMap::new());
    for (weight, described) in base.weights() {
        let Some([groups, d_output]) = described.scales() else {
            let message = format!("{ENTRY} entry: {weight}: {described} has no whole groups");
            return Err(FileError::invalid(path, message));
        };
        let len = groups.checked_mul(d_output);
        let part = len.and_then(|len| rest.split_at_checked(len));
        let Some((own, others)) = part else {
            return Err(wrong(format!(
                "has {found} step sizes, expected more: there are none for {weight}"
            )));
        };
        rest = others;
        let data = TensorData::new(own.to_vec(), [groups, d_output]);
        split.insert(weight.clone(), data);
    }
    if !rest.is_empty() {
        let (more, expected) = (rest.len(), found - rest.len());
        let message =
            format!("has {found} step sizes, expected {expected}: {more} are of no weight");
        return Err(wrong(message));
    }
    Ok(split)
}
