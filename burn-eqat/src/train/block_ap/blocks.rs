//! The blocks of a model by their paths, and the selected weights in them.

use super::BlockApConfig;
use crate::module::is_under;
use crate::train::rates::params;
use crate::train::{Blockwise, TrainError, known_selection};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor};

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
        if param_paths(model).iter().any(|param| is_under(param, path)) {
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

/// The paths of all parameters of a module.
fn param_paths<M: Module>(module: &M) -> Vec<String> {
    sizes(module).into_iter().map(|(path, _)| path).collect()
}

fn params_under<M: Module>(module: &M, block: &str) -> usize {
    let inside = sizes(module).into_iter();
    let inside = inside.filter(|(path, _)| is_under(path, block));
    inside.map(|(_, size)| size).sum()
}

/// The path of each parameter, and its number of elements.
fn sizes<M: Module>(module: &M) -> Vec<(String, usize)> {
    #[derive(Default)]
    struct Visitor {
        path: Vec<String>,
        found: Vec<(String, usize)>,
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let size = param.lazy_shape().num_elements();
            self.found.push((self.path.join("."), size));
        }
        fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {
            self.found.push((self.path.join("."), 0));
        }
    }
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.found
}
