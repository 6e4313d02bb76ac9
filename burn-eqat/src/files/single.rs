//! One file for any module, without a directory or a configuration.

use super::error::FileError;
use super::layout::{Role, slots};
use super::load::{LoadedFloats, Source};
use super::metadata::read_metadata;
use super::parameters::{each_parameter_of, view};
use super::quantization::{Overrides, Quantization};
use super::schemes::PackedSchemes;
use super::staged_file::StagedFile;
use super::stored::Format;
use super::tensor_file::{Located, locate};
use super::view::Floats;
use crate::Scheme;
use burn::module::Module;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The name of our entry in a file's metadata.
const ENTRY: &str = "burn-eqat";

/// The version of the file layout.
const VERSION: u32 = 1;

/// The entry, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    version: u32,
    /// Schemes of the packed weights, by their paths.
    schemes: BTreeMap<String, Scheme>,
}

/// Writes a module to one safetensors file. An existing file is replaced once the new one is complete.
pub(crate) fn save_module<M: Module>(module: &M, path: &Path) -> Result<(), FileError> {
    let staged = StagedFile::begin(path)?;
    save_part(module, &|_| true, staged.path())?;
    staged.commit()
}

/// Writes the parameters of a module whose paths are `inside` to a safetensors file.
pub(crate) fn save_part<M: Module>(
    module: &M,
    inside: &dyn Fn(&str) -> bool,
    path: &Path,
) -> Result<(), FileError> {
    let mut views = Vec::new();
    each_parameter_of(module, inside, path, |slot, data| {
        let view = view(path, &slot, data, Floats::AsIs)?;
        views.push((slot.name, view));
        Ok(())
    })?;
    let mut schemes = PackedSchemes::by_path(module);
    schemes.retain(|weight, _| inside(weight));
    let entry = Entry {
        version: VERSION,
        schemes,
    };
    let entry = serde_json::to_string(&entry).expect("names and schemes are writable");
    // One entry: two would be written in an order of chance, and the same module not always as the same bytes.
    let metadata = HashMap::from([(ENTRY.to_string(), entry)]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|error| FileError::invalid(path, error))
}

/// Loads a module from a file of [`save_module`].
pub(crate) fn load_module<M: Module>(module: M, path: &Path) -> Result<M, FileError> {
    // What is attached to the weights is replaced by what the file has.
    let attached = |role| matches!(role, Role::Scales | Role::FakeQuant);
    let module = if slots(&module).iter().any(|slot| attached(slot.role)) {
        module.materialize()
    } else {
        module
    };
    load_part(module, &|_| true, path)
}

/// Loads the parameters of a module whose paths are `inside` from a file of [`save_part`]. None of them is packed before.
pub(crate) fn load_part<M: Module>(
    module: M,
    inside: &dyn Fn(&str) -> bool,
    path: &Path,
) -> Result<M, FileError> {
    PartFile::open(path)?.load(module, "", inside)
}

/// A file of [`save_part`] whose header is read.
#[derive(Debug)]
pub(crate) struct PartFile {
    path: PathBuf,
    quantization: Option<Quantization>,
    tensors: BTreeMap<String, Located>,
}

impl PartFile {
    /// Reads the header of a file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let expected = "a file that was saved by this library";
        let Entry { version, schemes } = read_metadata(path, ENTRY, expected)?;
        if version != VERSION {
            let message = format!("has version {version} of the format, expected {VERSION}");
            return Err(FileError::invalid(path, message));
        }
        let packed = schemes.values().next().copied();
        let quantization = packed.map(|scheme| Quantization {
            format: Format::BurnEqat,
            scheme,
            overrides: Overrides::Paths(schemes),
        });
        Ok(Self {
            path: path.to_path_buf(),
            quantization,
            tensors: locate(path)?,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Loads the parameters of a module whose paths are `inside`. In the file their names begin with `prefix`. None of them is
    /// packed before.
    pub fn load<M: Module>(
        &self,
        module: M,
        prefix: &str,
        inside: &dyn Fn(&str) -> bool,
    ) -> Result<M, FileError> {
        let source = Source {
            path: &self.path,
            tensors: &self.tensors,
            quantization: self.quantization.clone(),
            floats: LoadedFloats::AsStored,
            prefix,
            inside,
        };
        source.load(module, |_| false)
    }
}

/// Adds the parameters of a module whose paths are `inside` to a hash: their names, shapes, types and values. `path` is for
/// messages.
pub(crate) fn digest_part<M: Module>(
    module: &M,
    inside: &dyn Fn(&str) -> bool,
    path: &Path,
    hasher: &mut crc32fast::Hasher,
) -> Result<(), FileError> {
    each_parameter_of(module, inside, path, |slot, data| {
        let head = format!("{} {:?} {:?};", slot.name, data.shape(), data.dtype());
        hasher.update(head.as_bytes());
        hasher.update(data.as_bytes());
        Ok(())
    })
}
