//! The file of a block in training: its numbers, and the moments of their optimizer.

use super::skeleton::{filled, numbers};
use crate::RunDir;
use crate::files::FileError;
use crate::module::{is_under, list_params};
use crate::train::kept_tensors::{KeptTensors, Moments, by_paths, named_tensor, write_kept};
use crate::train::optimizer::adamw;
use crate::train::{CacheDType, TrainError};
use burn::module::{Module, ParamId};
use burn::optim::ModuleOptimizer;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

/// What all names of such files begin with.
const PREFIX: &str = "e2e-ap-";

/// What names of numbers begin with in the file.
const NUMBERS: &str = "numbers";

/// A block in a file of a run directory. A step writes another file, and the one before goes, unless the run may have to go back to
/// it.
#[derive(Clone, Debug)]
pub(super) struct BlockFile {
    /// The path of the block in the model.
    pub path: String,
    index: usize,
    /// The name of the file.
    pub name: String,
}

impl BlockFile {
    /// Writes a block of a model as it is before the first step.
    pub fn begin<M: Module>(
        run: &RunDir,
        index: usize,
        path: &str,
        model: &M,
    ) -> Result<Self, TrainError> {
        let file = Self {
            path: path.to_string(),
            index,
            name: file_name(index, 0),
        };
        file.write(run, model, Moments::default())?;
        Ok(file)
    }

    /// The file of a run that goes on.
    pub fn resume(index: usize, path: &str, name: String) -> Self {
        Self {
            path: path.to_string(),
            index,
            name,
        }
    }

    /// What the run directory calls the file of a block, once it is kept.
    pub fn role(index: usize) -> String {
        format!("{PREFIX}{index:04}")
    }

    fn location(&self, run: &RunDir) -> PathBuf {
        run.path().join(&self.name)
    }

    fn write<M: Module>(
        &self,
        run: &RunDir,
        model: &M,
        moments: Moments,
    ) -> Result<(), TrainError> {
        let numbers = numbers(model, &self.path).into_iter();
        let tensors = numbers.map(|(path, data)| named_tensor(format!("{NUMBERS}:{path}"), data));
        Ok(write_kept(
            &self.location(run),
            tensors.collect(),
            moments,
            &[],
        )?)
    }

    /// The model with the block's numbers in the place of none.
    pub fn read<M: Module>(&self, run: &RunDir, model: M) -> Result<M, TrainError> {
        let kept = KeptTensors::read(&self.location(run))?;
        filled(model, &self.path, &|path, shape| {
            let data = kept.floats(&format!("{NUMBERS}:{path}"), shape)?;
            data.ok_or_else(|| kept.invalid(format!("no {path} in f32, {shape:?}")))
        })
    }

    /// The optimizer of the block, which `model` has.
    pub fn optimizer<M: Module>(
        &self,
        run: &RunDir,
        model: &M,
    ) -> Result<ModuleOptimizer, TrainError> {
        let params = list_params(model).into_iter();
        let params = params.filter(|param| is_under(&param.path, &self.path));
        let ids = params.map(|param| (param.path, param.id));
        let ids: HashMap<String, ParamId> = ids.collect();
        KeptTensors::read(&self.location(run))?.optimizer(&ids, adamw())
    }

    /// Writes the block after a step, its moments in this type. The file before it is left.
    pub fn after<M: Module>(
        &self,
        run: &RunDir,
        step: usize,
        model: &M,
        optim: &ModuleOptimizer,
        moments: CacheDType,
    ) -> Result<Self, TrainError> {
        let file = Self {
            name: file_name(self.index, step),
            ..self.clone()
        };
        let kept = by_paths(optim, &|_, path| Some(path.to_string()))?;
        let kept = kept.in_dtype(moments, step as u64)?;
        file.write(run, model, kept)?;
        Ok(file)
    }

    /// Removes the file.
    pub fn remove(&self, run: &RunDir) {
        // Where it stays, the next run removes it.
        let _ = fs::remove_file(self.location(run));
    }
}

/// The name of the file of a block after that many steps.
fn file_name(index: usize, step: usize) -> String {
    format!("{PREFIX}{index:04}-{step:08}.bpk")
}

/// Removes all such files but those: what a run left that was killed between two steps.
pub(super) fn remove_others(run: &RunDir, kept: &[String]) -> Result<(), FileError> {
    let entries = fs::read_dir(run.path()).map_err(FileError::io(run.path()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(".bpk") && !kept.contains(&name) {
            let path = entry.path();
            fs::remove_file(&path).map_err(FileError::io(&path))?;
        }
    }
    Ok(())
}
