use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Int, Tensor};

/// A parameter of a module; those of attachments are listed, too.
pub(crate) struct ListedParam {
    pub path: String,
    pub id: ParamId,
    /// Its number of floats; 0 for integers.
    pub floats: usize,
}

/// The float and integer parameters of a module, in its order.
pub(crate) fn list_params<M: Module>(module: &M) -> Vec<ListedParam> {
    #[derive(Default)]
    struct Visitor {
        path: Vec<String>,
        found: Vec<ListedParam>,
    }
    impl Visitor {
        fn push(&mut self, id: ParamId, floats: usize) {
            let path = self.path.join(".");
            self.found.push(ListedParam { path, id, floats });
        }
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.push(param.id, param.lazy_shape().num_elements());
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.push(param.id, 0);
        }
    }
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.found
}
