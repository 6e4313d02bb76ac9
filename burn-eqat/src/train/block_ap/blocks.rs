//! The blocks of a model by their paths, and the selected weights in them.

use super::BlockApConfig;
use crate::module::{is_under, list_params};
use crate::train::rates::params;
use crate::train::{Blockwise, TrainError, known_selection};
use burn::module::Module;

/// The checked paths of a model's blocks.
#[derive(Clone, Debug)]
pub(super) struct Blocks(Vec<String>);

impl Blocks {
    /// The blocks of a model. Checks that they do not overlap, and that those in memory have parameters.
    pub fn new<M: Blockwise>(model: &M) -> Result<Self, TrainError> {
        let paths = model.blocks();
        if paths.is_empty() {
            return Err(TrainError::NoBlocks);
        }
        for (index, outer) in paths.iter().enumerate() {
            let others = paths.iter().enumerate();
            let inner = others
                .filter(|(other, _)| *other != index)
                .find(|(_, path)| is_under(path, outer));
            if let Some((_, inner)) = inner {
                return Err(TrainError::OverlappingBlocks {
                    outer: outer.clone(),
                    inner: inner.clone(),
                });
            }
        }
        let blocks = Blocks(paths);
        for index in 0..blocks.len() {
            if model.is_loaded(index) {
                blocks.check_loaded(model, index)?;
            }
        }
        Ok(blocks)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn paths(&self) -> &[String] {
        &self.0
    }

    pub fn path(&self, index: usize) -> &str {
        &self.0[index]
    }

    /// Fails if a block has no parameters.
    pub fn check_loaded<M: Module>(&self, model: &M, index: usize) -> Result<(), TrainError> {
        let path = self.path(index);
        if list_params(model)
            .iter()
            .any(|param| is_under(&param.path, path))
        {
            Ok(())
        } else {
            let path = path.to_string();
            Err(TrainError::EmptyBlock { path })
        }
    }

    /// Fails if a selected weight is in no block or the selection is wrong, as far as that is known before all blocks are in
    /// memory.
    pub fn check_selection<M: Blockwise>(
        &self,
        model: &M,
        config: &BlockApConfig,
    ) -> Result<(), TrainError> {
        let selected = known_selection(model, &config.weights, &config.schemes())?;
        let paths = selected.into_iter().map(|weight| weight.path);
        let paths: Vec<String> = paths
            .filter(|path| !self.0.iter().any(|block| is_under(path, block)))
            .collect();
        if paths.is_empty() {
            Ok(())
        } else {
            Err(TrainError::OutsideBlocks { paths })
        }
    }

    /// The number of parameters of the whole model. The first block must be in memory; each block in files counts like
    /// the first.
    pub fn count_params<M: Blockwise>(&self, model: &M) -> usize {
        let missing = (0..self.len()).filter(|index| !model.is_loaded(*index));
        let missing = missing.count();
        let first = if missing > 0 {
            params_under(model, self.path(0))
        } else {
            0
        };
        params(model) + missing * first
    }
}

fn params_under<M: Module>(module: &M, block: &str) -> usize {
    let inside = list_params(module).into_iter();
    let inside = inside.filter(|param| is_under(&param.path, block));
    inside.map(|param| param.floats).sum()
}
