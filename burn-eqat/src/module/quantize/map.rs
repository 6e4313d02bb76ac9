//! Changing the step sizes of a module.

use crate::FakeQuant;
use crate::module::attached::{Attached, attached};
use crate::module::walk::Walk;
use crate::run_dir::HostScales;
use burn::module::{Module, ModuleMapper, Param, ParamGroup, Reparameterization};
use burn::tensor::{DType, Tensor};
use burn_eqat_kernels::supports;
use std::collections::HashMap;

/// Step sizes rounded to 16-bit floats, in their own type.
pub(in crate::module) fn to_stored(scales: Tensor<2>) -> Tensor<2> {
    let (dtype, device) = (scales.dtype(), scales.device());
    if supports(&device, DType::F16) {
        return scales.cast(DType::F16).cast(dtype);
    }
    // NdArray, and some GPUs, have no such type.
    let rounded = scales.into_data().convert_dtype(DType::F16);
    Tensor::from_data(rounded.convert_dtype(dtype), (&device, dtype))
}

/// Rounds the step sizes of fake-quantized and packed weights to 16-bit floats.
pub(super) fn round_scales<M: Module>(module: M) -> M {
    let group = ParamGroup::from_paths(scale_paths(&module));
    map_group(module, group, &|_, scales| to_stored(scales))
}

/// Puts other step sizes into packed weights, by the paths of the weights; they stay what they are in training.
pub(crate) fn map_scales<M: Module>(module: M, values: HashMap<String, Tensor<2>>) -> M {
    let group = ParamGroup::from_paths(values.keys().cloned().collect());
    map_group(module, group, &|path, scales: Tensor<2>| {
        let value = values[path].clone();
        if scales.is_autodiff() {
            Tensor::from_inner(value)
        } else {
            value
        }
    })
}

/// Puts step sizes from host memory into packed weights, by the paths of the weights, and has the parameters called as they say.
pub(crate) fn place_scales<M: Module>(module: M, values: &HostScales) -> M {
    struct Mapper<'a> {
        walk: Walk,
        values: &'a HostScales,
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
            let Some(scale) = self.values.get(&self.walk.path()) else {
                return param;
            };
            let data = scale.data.clone();
            let mut param = param.map(|value| {
                let shape = value.dims();
                let value = Tensor::<2>::from_data(data, (&value.device(), DType::F32));
                value.reshape(shape)
            });
            param.id = scale.id;
            param
        }
    }
    module.map(&mut Mapper {
        walk: Walk::default(),
        values,
    })
}

/// Paths of the step sizes of fake-quantized and packed weights.
fn scale_paths<M: Module>(module: &M) -> Vec<String> {
    attached(module)
        .into_iter()
        .map(|(path, attached)| match attached {
            Attached::Fake { .. } => format!("{path}.{}.scales", FakeQuant::NAME),
            Attached::Packed { .. } => path,
        })
        .collect()
}

/// Maps the matrices of a group.
fn map_group<M: Module>(
    module: M,
    group: ParamGroup,
    function: &dyn Fn(&str, Tensor<2>) -> Tensor<2>,
) -> M {
    struct Mapper<'a> {
        walk: Walk,
        group: ParamGroup,
        function: &'a dyn Fn(&str, Tensor<2>) -> Tensor<2>,
    }
    impl ModuleMapper for Mapper<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.walk.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let path = self.walk.path();
            if !self.group.matches(&param.id, Some(&path)) {
                return param;
            }
            param.map(|value| {
                let (shape, tracked) = (value.dims(), value.is_require_grad());
                let value = value.detach().reshape([shape[0], shape[1]]);
                let mapped = (self.function)(&path, value).reshape(shape);
                mapped.set_require_grad(tracked)
            })
        }
    }
    module.map(&mut Mapper {
        walk: Walk::default(),
        group,
        function,
    })
}
