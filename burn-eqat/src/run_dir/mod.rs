//! A directory that a quantization can be resumed from.

mod checksum;
mod compare;
mod error;
mod manifest;
mod part;
mod stored;
mod stored_block;

pub use error::RunDirError;
pub(crate) use stored::Stored;
pub use stored_block::StoredBlock;
pub(crate) use stored_block::{HostScale, HostScales};

use crate::files::{FileError, StagedFile, sync_dir, sync_file};
use manifest::{Entry, MANIFEST, Manifest};
use serde_json::Value;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A directory that keeps what a quantization has finished, so that a run that was stopped, or killed, can go on.
///
/// It holds the settings that the run began with, each block that Block-AP has finished, and the state of E2E-QP; for models whose
/// blocks need not stay in memory ([`StoredBlock`]) also the blocks that were rounded for comparison, while they are measured, and
/// those of a packed model. A phase
/// with a run directory ([`BlockAp::with_run_dir`](crate::train::BlockAp::with_run_dir),
/// [`E2eQp::with_run_dir`](crate::train::E2eQp::with_run_dir),
/// [`EfficientQat::with_run_dir`](crate::EfficientQat::with_run_dir)) loads what is finished and does the rest. On the same
/// device, with as many threads, a resumed run ends with the same bytes as one that was never stopped. For that the model and
/// the data loaders have to be made anew in the same way; settings, a model or data that differ are refused.
///
/// Every file is written beside its place, synced and renamed, and is checked against a checksum before it is used. A block
/// file that is gone is trained again. One process at a time can use a run directory; clones share it.
///
/// ```
/// use burn_eqat::{EfficientQatConfig, RunDir, Weights};
///
/// # let parent = tempfile::tempdir()?;
/// # let path = parent.path().join("run");
/// // The first time it is created, after that the run goes on.
/// let run = RunDir::open_or_create(&path)?;
/// let recipe = EfficientQatConfig::new("w2g64".parse()?, Weights::linears())
///     .init()
///     .with_run_dir(run.clone());
/// // recipe.run(model, data, &mut observer)?, then save the model, and then:
/// # drop(recipe);
/// run.remove()?;
/// assert!(!path.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunDir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    manifest: Mutex<Manifest>,
    /// Locked for as long as this is open.
    lock: File,
}

/// The file that is locked.
const LOCK: &str = "lock";

impl RunDir {
    /// Begins a run at `path`. The directory is created where it is missing.
    ///
    /// # Errors
    ///
    /// When there is a run already, another process uses the directory, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, RunDirError> {
        fs::create_dir_all(path).map_err(FileError::io(path))?;
        let lock = lock(path)?;
        if Self::is_run(path) {
            let path = path.to_path_buf();
            return Err(RunDirError::Exists { path });
        }
        let manifest = Manifest::new();
        manifest.write(path)?;
        Ok(Self::new(path, manifest, lock))
    }

    /// Opens a run to go on with.
    ///
    /// # Errors
    ///
    /// When there is no run, its manifest is damaged, another process uses it, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        if !Self::is_run(path) {
            let path = path.to_path_buf();
            return Err(RunDirError::NoRun { path });
        }
        let lock = lock(path)?;
        let manifest = Manifest::read(path)?;
        remove_unfinished(path);
        Ok(Self::new(path, manifest, lock))
    }

    /// Opens the run at `path`, or begins one where there is none.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn open_or_create(path: &Path) -> Result<Self, RunDirError> {
        if Self::is_run(path) {
            Self::open(path)
        } else {
            Self::create(path)
        }
    }

    /// Whether there is a run at `path`.
    pub fn is_run(path: &Path) -> bool {
        path.join(MANIFEST).exists()
    }

    fn new(path: &Path, manifest: Manifest, lock: File) -> Self {
        RunDir(Arc::new(Inner {
            path: path.to_path_buf(),
            manifest: Mutex::new(manifest),
            lock,
        }))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Checks a setting against that of the run; the first time, the run takes it. `name` says what the setting is, such as
    /// `block_ap`; a map is compared field by field.
    ///
    /// The phases do this with their configurations, the model and the data. A program can do it with settings of its own.
    ///
    /// ```
    /// use burn_eqat::RunDir;
    /// use serde_json::json;
    ///
    /// # let parent = tempfile::tempdir()?;
    /// # let path = parent.path().join("run");
    /// let run = RunDir::open_or_create(&path)?;
    /// run.agree("data", json!({"file": "train.jsonl", "seed": 42}))?;
    /// // Later, perhaps in another process:
    /// run.agree("data", json!({"file": "train.jsonl", "seed": 42}))?;
    /// let error = run.agree("data", json!({"file": "train.jsonl", "seed": 7})).unwrap_err();
    /// assert!(error.to_string().contains("data.seed"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the run began with another value (the error names the first field that differs), or the directory cannot be
    /// written.
    pub fn agree(&self, name: &str, value: Value) -> Result<(), RunDirError> {
        let mut manifest = self.manifest();
        match manifest.settings.get(name) {
            None => {
                manifest.settings.insert(name.to_string(), value);
                manifest.write(self.path())
            }
            Some(begun) => self.compare(name, begun, &value),
        }
    }

    /// Fails where a value of the run is not that of now.
    pub(crate) fn compare(
        &self,
        name: &str,
        begun: &Value,
        now: &Value,
    ) -> Result<(), RunDirError> {
        match compare::difference(name, begun, now) {
            None => Ok(()),
            Some(difference) => Err(RunDirError::Differs {
                path: self.path().to_path_buf(),
                setting: difference.name,
                run: difference.begun,
                now: difference.now,
            }),
        }
    }

    /// A setting of the run, where it has one of this name.
    pub fn setting(&self, name: &str) -> Option<Value> {
        self.manifest().settings.get(name).cloned()
    }

    /// Keeps a value of the program's own, such as what it measured; replaces an earlier one of this name.
    ///
    /// ```
    /// use burn_eqat::RunDir;
    /// use serde_json::json;
    ///
    /// # let parent = tempfile::tempdir()?;
    /// # let path = parent.path().join("run");
    /// let run = RunDir::open_or_create(&path)?;
    /// run.set_note("perplexity", json!(7.25))?;
    /// assert_eq!(run.note("perplexity"), Some(json!(7.25)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn set_note(&self, name: &str, value: Value) -> Result<(), RunDirError> {
        let mut manifest = self.manifest();
        manifest.notes.insert(name.to_string(), value);
        manifest.write(self.path())
    }

    /// The value that was kept under a name.
    pub fn note(&self, name: &str) -> Option<Value> {
        self.manifest().notes.get(name).cloned()
    }

    /// Keeps a file of the program's own, such as its calibration data: `write` fills the file whose path it is given. It
    /// replaces an earlier file that was kept under this name.
    ///
    /// ```
    /// use burn_eqat::RunDir;
    /// use burn_eqat::files::FileError;
    /// use std::fs;
    ///
    /// # let parent = tempfile::tempdir()?;
    /// # let path = parent.path().join("run");
    /// let run = RunDir::open_or_create(&path)?;
    /// run.keep_file("windows.txt", |path| {
    ///     fs::write(path, "3 9 27").map_err(|error| FileError::invalid(path, error))
    /// })?;
    /// let kept = run.kept_file("windows.txt")?.expect("it was kept");
    /// assert_eq!(fs::read_to_string(kept)?, "3 9 27");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As `write`, or when the directory cannot be written.
    pub fn keep_file(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), FileError>,
    ) -> Result<(), RunDirError> {
        self.store(name, name, Value::Null, write)
    }

    /// The path of a file that was kept under a name, once its checksum is right.
    ///
    /// # Errors
    ///
    /// When the file is damaged or cannot be read.
    pub fn kept_file(&self, name: &str) -> Result<Option<PathBuf>, RunDirError> {
        Ok(self.stored(name)?.map(|stored| stored.path))
    }

    /// Ends the run: removes what it has written, and the directory when nothing else is in it. A model that reads its blocks from
    /// there ([`StoredBlock`]) is of no use from then on: save it first.
    ///
    /// # Errors
    ///
    /// When a file cannot be removed.
    pub fn remove(self) -> Result<(), RunDirError> {
        let path = self.path();
        let remove = |name: &str| match fs::remove_file(path.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FileError::io(&path.join(name))(error))
            }
            _ => Ok(()),
        };
        // First of all what makes it a run: what is left without it is never taken for one.
        remove(MANIFEST)?;
        for entry in self.manifest().files.values() {
            remove(&entry.file)?;
        }
        remove_unfinished(path);
        // Some systems do not remove a file that is locked.
        let _ = self.0.lock.unlock();
        remove(LOCK)?;
        // Something of somebody else's may be there.
        let _ = fs::remove_dir(path);
        Ok(())
    }

    /// Writes a file, and then has the run know it as `role`. `facts` are kept with it. A file that was there in this role
    /// under another name is removed.
    pub(crate) fn store(
        &self,
        role: &str,
        file: &str,
        facts: Value,
        write: impl FnOnce(&Path) -> Result<(), FileError>,
    ) -> Result<(), RunDirError> {
        let target = self.path().join(file);
        let staged = StagedFile::begin(&target)?;
        write(staged.path())?;
        let entry = Entry {
            file: file.to_string(),
            checksum: checksum::of_file(staged.path())?,
            facts,
        };
        staged.commit()?;
        self.enter(vec![(role.to_string(), entry)], None)
    }

    /// The file of a role, once its checksum is right; `None` where there is none, or it is gone.
    pub(crate) fn stored(&self, role: &str) -> Result<Option<Stored>, RunDirError> {
        let Some(entry) = self.manifest().files.get(role).cloned() else {
            return Ok(None);
        };
        let path = self.path().join(&entry.file);
        if !path.exists() {
            return Ok(None);
        }
        if checksum::of_file(&path)? != entry.checksum {
            return Err(RunDirError::Damaged {
                path,
                message: "is not what was written: delete it to have it made again",
            });
        }
        let facts = entry.facts;
        Ok(Some(Stored { path, facts }))
    }

    /// Takes files that are in the directory already under these roles, each `(role, file)`, and a note with them. Either all of it is
    /// there afterwards or nothing; the files that had these roles are removed.
    pub(crate) fn adopt(
        &self,
        files: &[(String, String)],
        (name, note): (&str, Value),
    ) -> Result<(), RunDirError> {
        let mut entries = Vec::new();
        for (role, file) in files {
            let path = self.path().join(file);
            sync_file(&path)?;
            let entry = Entry {
                file: file.clone(),
                checksum: checksum::of_file(&path)?,
                facts: Value::Null,
            };
            entries.push((role.clone(), entry));
        }
        sync_dir(self.path())?;
        self.enter(entries, Some((name, note)))
    }

    /// Writes entries of files that are there, and a note, into the manifest; removes the files that had their roles before.
    fn enter(
        &self,
        entries: Vec<(String, Entry)>,
        note: Option<(&str, Value)>,
    ) -> Result<(), RunDirError> {
        let mut manifest = self.manifest();
        if let Some((name, note)) = note {
            manifest.notes.insert(name.to_string(), note);
        }
        let mut before = Vec::new();
        for (role, entry) in entries {
            let file = entry.file.clone();
            let replaced = manifest.files.insert(role, entry);
            before.extend(replaced.filter(|replaced| replaced.file != file));
        }
        manifest.write(self.path())?;
        for before in before {
            // It is not needed any more; where it stays it does no harm.
            let _ = fs::remove_file(self.path().join(before.file));
        }
        Ok(())
    }

    /// Forgets the file of a role, and removes it.
    pub(crate) fn discard(&self, role: &str) -> Result<(), RunDirError> {
        let mut manifest = self.manifest();
        let Some(entry) = manifest.files.remove(role) else {
            return Ok(());
        };
        manifest.write(self.path())?;
        // Where it stays it does no harm.
        let _ = fs::remove_file(self.path().join(entry.file));
        Ok(())
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        let manifest = &self.0.manifest;
        manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks a directory against other processes.
fn lock(dir: &Path) -> Result<File, RunDirError> {
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(FileError::io(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(RunDirError::InUse {
            path: dir.to_path_buf(),
        }),
        // Some file systems have no locks.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

/// Removes what a process that was killed has left half-written.
fn remove_unfinished(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(".eqat-") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(path: &Path, text: &str) -> Result<(), FileError> {
        fs::write(path, text).map_err(FileError::io(path))
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/run");
        assert!(matches!(
            RunDir::open(&path),
            Err(RunDirError::NoRun { .. })
        ));
        let run = RunDir::create(&path).unwrap();
        run.agree("phase", json!({ "epochs": 2, "rate": 0.1 }))
            .unwrap();
        run.set_note("perplexity", json!(3.5)).unwrap();
        run.store("state", "state-1", json!(1), |path| write(path, "one"))
            .unwrap();
        run.store("state", "state-2", json!(2), |path| write(path, "two"))
            .unwrap();
        assert!(matches!(
            RunDir::open(&path),
            Err(RunDirError::InUse { .. })
        ));
        drop(run);
        // As a process leaves it that is killed while it writes.
        fs::write(path.join(".eqat-123"), "half").unwrap();
        assert!(matches!(
            RunDir::create(&path),
            Err(RunDirError::Exists { .. })
        ));

        let run = RunDir::open_or_create(&path).unwrap();
        assert!(!path.join(".eqat-123").exists());
        assert!(!path.join("state-1").exists());
        assert_eq!(run.note("perplexity"), Some(json!(3.5)));
        let stored = run.stored("state").unwrap().unwrap();
        assert_eq!(fs::read_to_string(&stored.path).unwrap(), "two");
        assert_eq!(stored.facts, json!(2));
        assert!(run.stored("other").unwrap().is_none());

        run.agree("phase", json!({ "epochs": 2, "rate": 0.1 }))
            .unwrap();
        let error = run.agree("phase", json!({ "epochs": 3, "rate": 0.1 }));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("phase.epochs is 3"), "{error}");
        assert!(error.contains("began with 2"), "{error}");

        fs::write(path.join("mine"), "mine").unwrap();
        run.remove().unwrap();
        let left: Vec<_> = fs::read_dir(&path).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "mine");
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunDir::create(parent.path()).unwrap();
        run.store("state", "state", Value::Null, |path| write(path, "state"))
            .unwrap();
        fs::write(parent.path().join("state"), "stale").unwrap();
        let error = run.stored("state").unwrap_err().to_string();
        assert!(error.contains("state: is not what was written"), "{error}");
        fs::remove_file(parent.path().join("state")).unwrap();
        assert!(run.stored("state").unwrap().is_none());
        drop(run);

        let manifest = parent.path().join(MANIFEST);
        let text = fs::read_to_string(&manifest).unwrap();
        for damaged in [text.replace("state", "stale"), text[1..].to_string()] {
            fs::write(&manifest, damaged).unwrap();
            let error = RunDir::open(parent.path()).unwrap_err().to_string();
            assert!(error.contains(MANIFEST), "{error}");
        }
    }
}
