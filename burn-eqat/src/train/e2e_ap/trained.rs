use crate::FakeQuant;
use crate::module::is_under;
use burn::module::{Module, ModuleMapper, Param, Reparameterization};
use burn::tensor::Tensor;

/// A model whose fake-quantized weights, their step sizes and zero points, and all other parameters of blocks that are named `weight`
/// or `gamma` (mainly norms) train, and nothing else.
pub(super) fn train_blocks<M: Module>(model: M, blocks: &[String], weights: &[String]) -> M {
    model.train().map(&mut Trained {
        path: Vec::new(),
        blocks,
        weights,
    })
}

struct Trained<'a> {
    path: Vec<String>,
    blocks: &'a [String],
    weights: &'a [String],
}

impl Trained<'_> {
    fn trains(&self, path: &str) -> bool {
        let name = path.rsplit('.').next();
        let in_block = self.blocks.iter().any(|block| is_under(path, block));
        self.path.iter().any(|part| part == FakeQuant::NAME)
            || self.weights.iter().any(|weight| weight == path)
            || in_block && matches!(name, Some("weight" | "gamma"))
    }
}

impl ModuleMapper for Trained<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trains = self.trains(&self.path.join("."));
        param.set_require_grad(trains)
    }
}
