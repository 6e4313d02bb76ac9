//! Gradients of matrices by their paths.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Gives the gradient of each parameter, as a matrix of its first axis and its last, with its path.
pub(super) fn for_each_matrix_grad<M: Module>(
    module: &M,
    grads: GradientsParams,
    take: &mut dyn FnMut(String, Tensor<2>),
) {
    module.visit(&mut Visitor {
        path: Vec::new(),
        grads,
        take,
    });
}

struct Visitor<'a> {
    path: Vec<String>,
    grads: GradientsParams,
    take: &'a mut dyn FnMut(String, Tensor<2>),
}

impl ModuleVisitor for Visitor<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let [rows, columns] = [grad.dims()[0], grad.dims()[D - 1]];
            (self.take)(self.path.join("."), grad.reshape([rows, columns]));
        }
    }
}
