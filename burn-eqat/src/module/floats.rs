//! The floats of a module by their paths, without what is attached to them. That of a packed weight is its step sizes.

use super::walk::Walk;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Shape, Tensor, TensorData};
use std::collections::BTreeMap;

/// The shape of each.
pub(crate) fn float_shapes<M: Module>(module: &M) -> BTreeMap<String, Shape> {
    struct Visitor {
        walk: Walk,
        found: BTreeMap<String, Shape>,
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.walk.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !self.walk.is_attached() {
                self.found.insert(self.walk.path(), param.lazy_shape());
            }
        }
    }
    let mut visitor = Visitor {
        walk: Walk::default(),
        found: BTreeMap::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// The values of those whose paths are `wanted`, in their own types.
pub(crate) fn float_data<M: Module>(
    module: &M,
    wanted: &dyn Fn(&str) -> bool,
) -> BTreeMap<String, TensorData> {
    struct Visitor<'a> {
        walk: Walk,
        wanted: &'a dyn Fn(&str) -> bool,
        found: BTreeMap<String, TensorData>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.walk.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.walk.path();
            if !self.walk.is_attached() && (self.wanted)(&path) {
                self.found.insert(path, param.base().into_data());
            }
        }
    }
    let mut visitor = Visitor {
        walk: Walk::default(),
        wanted,
        found: BTreeMap::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// Puts values in the place of some of them, by their paths. Shapes have to be right; types, devices, and what is attached or
/// trained stay as they are.
pub(crate) fn place_floats<M: Module>(module: M, values: &BTreeMap<&str, &TensorData>) -> M {
    struct Mapper<'a> {
        walk: Walk,
        values: &'a BTreeMap<&'a str, &'a TensorData>,
    }
    impl ModuleMapper for Mapper<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.walk.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.walk.is_attached() {
                return param;
            }
            let Some(data) = self.values.get(self.walk.path().as_str()) else {
                return param;
            };
            param.map(|value| {
                let tracked = value.is_require_grad();
                let placed: Tensor<D> =
                    Tensor::from_data((*data).clone(), (&value.device(), value.dtype()));
                placed.set_require_grad(tracked)
            })
        }
    }
    module.map(&mut Mapper {
        walk: Walk::default(),
        values,
    })
}
