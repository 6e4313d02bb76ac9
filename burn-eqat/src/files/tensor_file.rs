//! The tensors of one file, in safetensors or PyTorch's pickle format.

use super::error::FileError;
use burn::store::{ModuleStore, SafetensorsStore};
use burn::tensor::{DType, Shape};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A tensor whose data is read from its file on request.
pub(super) type FileTensor = burn::store::burn_pack::Tensor;

/// The place of a tensor, and its description in the file.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub file: PathBuf,
    /// Its name in the file.
    pub name: String,
    pub shape: Shape,
    pub dtype: DType,
}

/// The tensors of a file, by name.
pub(super) fn locate(path: &Path) -> Result<BTreeMap<String, Located>, FileError> {
    let located = |tensor: FileTensor| Located {
        file: path.to_path_buf(),
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        dtype: tensor.dtype,
    };
    let tensors = open_file(path)?.into_iter();
    Ok(tensors
        .map(|(name, tensor)| (name, located(tensor)))
        .collect())
}

/// Open files, with their tensors.
#[derive(Default)]
pub(super) struct OpenFiles(HashMap<PathBuf, BTreeMap<String, FileTensor>>);

impl OpenFiles {
    pub fn tensor(&mut self, located: &Located) -> Result<FileTensor, FileError> {
        let (file, name) = (&located.file, &located.name);
        if !self.0.contains_key(file) {
            self.0.insert(file.clone(), open_file(file)?);
        }
        let tensor = self.0[file].get(name).cloned();
        let missing = || FileError::tensor(file, name, "is gone since the file was opened");
        let tensor = tensor.ok_or_else(missing)?;
        if tensor.shape != located.shape || tensor.dtype != located.dtype {
            let message = "has another shape or type since the file was opened";
            return Err(FileError::tensor(file, name, message));
        }
        Ok(tensor)
    }
}

fn open_file(path: &Path) -> Result<BTreeMap<String, FileTensor>, FileError> {
    if is_pickle(path)? {
        return open_pickle(path);
    }
    let mut store = SafetensorsStore::from_file(path);
    let tensors = store
        .get_all_tensors()
        .map_err(|error| FileError::invalid(path, format!("not a safetensors file: {error}")))?;
    Ok(tensors.clone())
}

/// Whether a file is in PyTorch's format, by its name, unless it begins like a safetensors file.
fn is_pickle(path: &Path) -> Result<bool, FileError> {
    let mut head = Vec::new();
    let file = fs::File::open(path).map_err(FileError::io(path))?;
    file.take(9)
        .read_to_end(&mut head)
        .map_err(FileError::io(path))?;
    let extension = path.extension().unwrap_or_default();
    let named = ["bin", "pt", "pth"].iter().any(|known| extension == *known);
    // The length of the header, and its first brace.
    Ok(named && head.get(8) != Some(&b'{'))
}

#[cfg(feature = "pytorch")]
fn open_pickle(path: &Path) -> Result<BTreeMap<String, FileTensor>, FileError> {
    // Names do not change.
    let mut store = burn::store::PytorchStore::from_file(path).map_indices_contiguous(false);
    let tensors = store
        .get_all_tensors()
        .map_err(|error| FileError::invalid(path, format!("not a PyTorch file: {error}")))?;
    Ok(tensors.clone())
}

#[cfg(not(feature = "pytorch"))]
fn open_pickle(path: &Path) -> Result<BTreeMap<String, FileTensor>, FileError> {
    let message = "is in PyTorch's format, and the cargo feature pytorch is off";
    Err(FileError::invalid(path, message))
}
