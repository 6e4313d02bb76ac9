//! The parameters of a module, in the form of files.

use super::error::FileError;
use super::layout::{Slot, slots};
use super::view::{Floats, TensorView};
use burn::module::Module;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::TensorData;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A parameter in the form of files.
pub(super) fn view(
    path: &Path,
    slot: &Slot,
    data: TensorData,
    floats: Floats,
) -> Result<TensorView, FileError> {
    TensorView::of_parameter(data, slot.role, floats)
        .map_err(|message| FileError::tensor(path, &slot.name, message))
}

/// Calls `take` with every parameter of a module that files store, and its tensor.
pub(super) fn each_parameter<M: Module>(
    module: &M,
    path: &Path,
    take: impl FnMut(Slot, TensorData) -> Result<(), FileError>,
) -> Result<(), FileError> {
    each_parameter_of(module, &|_| true, path, take)
}

/// [`each_parameter`] for those whose paths are `inside`.
pub(super) fn each_parameter_of<M: Module>(
    module: &M,
    inside: &dyn Fn(&str) -> bool,
    path: &Path,
    mut take: impl FnMut(Slot, TensorData) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut slots = slots(module);
    slots.retain(|slot| inside(&slot.path));
    let mut names = HashSet::new();
    if let Some(slot) = slots.iter().find(|slot| !names.insert(slot.name.clone())) {
        let message = "two parameters of the model have this name in files";
        return Err(FileError::tensor(path, &slot.name, message));
    }
    let by_path = slots.into_iter().map(|slot| (slot.path.clone(), slot));
    let mut by_path: HashMap<String, Slot> = by_path.collect();
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
