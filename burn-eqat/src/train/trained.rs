//! Which parameters of a model train.

use crate::FakeQuant;
use crate::module::is_under;
use burn::module::{Module, ModuleMapper, Param, Reparameterization};
use burn::tensor::Tensor;

/// Makes those parameters train whose paths are chosen, and no others.
pub(super) fn train_only<M: Module>(model: M, chosen: &dyn Fn(&str) -> bool) -> M {
    struct Mapper<'a> {
        path: Vec<String>,
        chosen: &'a dyn Fn(&str) -> bool,
    }
    impl ModuleMapper for Mapper<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let trains = (self.chosen)(&self.path.join("."));
            param.set_require_grad(trains)
        }
    }
    model.map(&mut Mapper {
        path: Vec::new(),
        chosen,
    })
}

/// Makes the parameters of a block train that train where its weights do: the `selected` ones with what quantizes them, and those that
/// [train by their names](trains_by_name); and no others.
pub(super) fn train_block<M: Module>(model: M, block: &str, selected: &dyn Fn(&str) -> bool) -> M {
    train_only(model, &|path| trains_in_block(path, block, selected))
}

/// Whether a parameter trains where a block does.
pub(super) fn trains_in_block(path: &str, block: &str, selected: &dyn Fn(&str) -> bool) -> bool {
    is_under(path, block) && (trains_by_name(path) || is_of_quantizer(path) || selected(path))
}

/// Whether a path is that of a step size or zero point in training.
pub(super) fn is_of_quantizer(path: &str) -> bool {
    path.split('.').any(|part| part == FakeQuant::NAME)
}

/// Whether a parameter of a block trains by its name: mainly norms.
pub(super) fn trains_by_name(path: &str) -> bool {
    matches!(path.rsplit('.').next(), Some("weight" | "gamma"))
}
