use super::{RunDirError, checksum};
use crate::files::{FileError, StagedFile};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// The file that makes a directory one of a run.
pub(super) const MANIFEST: &str = "run.json";

/// The version of the layout that is written.
const VERSION: u32 = 1;

/// What a run is, and what is finished of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// What the run began with.
    pub settings: BTreeMap<String, Value>,
    /// What the program keeps besides.
    pub notes: BTreeMap<String, Value>,
    /// Finished files by their roles.
    pub files: BTreeMap<String, Entry>,
}

/// A file of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its name in the directory.
    pub file: String,
    pub checksum: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub facts: Value,
}

/// What a manifest begins with; its checksum follows, which is that of the text of the run.
const BEFORE_CHECKSUM: &str = "{\"checksum\": \"";
const AFTER_CHECKSUM: &str = "\", \"run\": ";
const END: &str = "}\n";

/// The text of the run in that of a manifest, where its checksum is right.
fn unseal(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(BEFORE_CHECKSUM)?;
    let (checksum, rest) = rest.split_once(AFTER_CHECKSUM)?;
    let run = rest.strip_suffix(END)?;
    (checksum::of_bytes(run.as_bytes()) == checksum).then_some(run)
}

impl Manifest {
    pub fn new() -> Self {
        Self {
            version: VERSION,
            settings: BTreeMap::new(),
            notes: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    pub fn read(dir: &Path) -> Result<Self, RunDirError> {
        let path = dir.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(FileError::io(&path))?;
        let Some(run) = unseal(&text) else {
            let message = "is not what was written: the run cannot go on";
            return Err(RunDirError::Damaged { path, message });
        };
        let manifest: Self =
            serde_json::from_str(run).map_err(|error| FileError::invalid(&path, error))?;
        if manifest.version != VERSION {
            let version = manifest.version;
            let message = format!("has version {version} of the format, expected {VERSION}");
            return Err(FileError::invalid(&path, message).into());
        }
        // Names are joined with the directory.
        for entry in manifest.files.values() {
            if Path::new(&entry.file).file_name() != Some(entry.file.as_ref()) {
                let message = format!("names a file {:?}, expected one beside it", entry.file);
                return Err(FileError::invalid(&path, message).into());
            }
        }
        Ok(manifest)
    }

    /// Puts it in the place of the one before.
    pub fn write(&self, dir: &Path) -> Result<(), RunDirError> {
        let path = dir.join(MANIFEST);
        let run = serde_json::to_string_pretty(self);
        let run = run.map_err(|error| FileError::invalid(&path, error))?;
        let checksum = checksum::of_bytes(run.as_bytes());
        let mut staged = StagedFile::begin(&path)?;
        write!(
            staged.file(),
            "{BEFORE_CHECKSUM}{checksum}{AFTER_CHECKSUM}{run}{END}"
        )
        .map_err(FileError::io(&path))?;
        Ok(staged.commit()?)
    }
}
