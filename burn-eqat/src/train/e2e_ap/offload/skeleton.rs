//! Blocks without numbers, and numbers that are put into them and taken out. Paths are those of all float parameters, also of those
//! that are attached to others.

use crate::module::is_under;
use crate::train::TrainError;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// The path of a parameter, as a module is gone through.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn under(&self, module: &str) -> Option<String> {
        let path = self.0.join(".");
        is_under(&path, module).then_some(path)
    }
}

/// The module without the numbers at or below a path: they are made, as zeros, only if they are asked for. All of them are to train;
/// the caller says later which do.
pub(super) fn emptied<M: Module>(module: M, under: &str) -> M {
    struct Emptied<'a> {
        path: Path,
        under: &'a str,
    }
    impl ModuleMapper for Emptied<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.0.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.0.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.path.under(self.under).is_none() {
                return param;
            }
            let shape = param.lazy_shape();
            let of = shape.clone();
            let zeros = move |device: &Device, _| Tensor::zeros(of, (device, DType::F32));
            Param::uninitialized(param.id, zeros, param.lazy_device(), true, shape)
        }
    }
    module.map(&mut Emptied {
        path: Path::default(),
        under,
    })
}

/// The numbers at or below a path, in f32.
pub(super) fn numbers<M: Module>(module: &M, under: &str) -> BTreeMap<String, TensorData> {
    struct Numbers<'a> {
        path: Path,
        under: &'a str,
        found: BTreeMap<String, TensorData>,
    }
    impl ModuleVisitor for Numbers<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.0.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(path) = self.path.under(self.under) {
                let data = param.base().into_data().convert_dtype(DType::F32);
                self.found.insert(path, data);
            }
        }
    }
    let mut visitor = Numbers {
        path: Path::default(),
        under,
        found: BTreeMap::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// What gives numbers by the path and the shape of a parameter.
type Read<'a> = &'a dyn Fn(&str, &[usize]) -> Result<TensorData, TrainError>;

/// The module with numbers at and below a path, which `read` gives by the path and the shape of each parameter.
pub(super) fn filled<M: Module>(module: M, under: &str, read: Read<'_>) -> Result<M, TrainError> {
    struct Filled<'a> {
        path: Path,
        under: &'a str,
        read: Read<'a>,
        failed: Option<TrainError>,
    }
    impl ModuleMapper for Filled<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.0.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.0.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(path) = self.path.under(self.under) else {
                return param;
            };
            if self.failed.is_some() {
                return param;
            }
            match (self.read)(&path, param.lazy_shape().as_slice()) {
                Ok(data) => {
                    // To ask the parameter anything else would make its zeros, and all clones of the skeleton would have them.
                    let place = (&param.lazy_device(), DType::F32);
                    let value = Tensor::from_data(data, place);
                    Param::initialized(param.id, value).set_require_grad(true)
                }
                Err(error) => {
                    self.failed = Some(error);
                    param
                }
            }
        }
    }
    let mut mapper = Filled {
        path: Path::default(),
        under,
        read,
        failed: None,
    };
    let module = module.map(&mut mapper);
    match mapper.failed {
        Some(error) => Err(error),
        None => Ok(module),
    }
}
