//! The dense matrices of a module.

use super::walk::Walk;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::collections::HashMap;

/// The matrices of a module as they are, or as what is attached to them makes them, in f32, by path.
pub(crate) fn dense_matrices<M: Module>(module: &M) -> HashMap<String, Tensor<2>> {
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.found
}

#[derive(Default)]
struct Visitor {
    walk: Walk,
    found: HashMap<String, Tensor<2>>,
}

impl ModuleVisitor for Visitor {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.walk.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.walk.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 2 && !self.walk.is_attached() {
            let value = crate::ComputeType::F32.cast(param.val().detach());
            let dims = value.dims();
            let value = value.reshape([dims[0], dims[1]]);
            self.found.insert(self.walk.path(), value);
        }
    }
}
