//! Packs the trained part of a model in training, and puts it back into the model.

use super::attached::{Attached, attached};
use super::quantize::map::to_stored;
use super::quantize::pack::{AttachPacked, pack_weight};
use super::walk::Walk;
use super::{Packed, QuantizeError};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor};
use std::any::Any;
use std::collections::HashMap;

/// Puts a part of `trained` into `model`, which is the same model without fake quantization in that part.
/// Fake-quantized weights become packed ones, all other parameters are copied. `inside` says which paths are in the part; what
/// `model` has there is not looked at, and need not have data. The rest of `model` does not change.
pub(crate) fn pack_trained<M: Module>(
    model: M,
    trained: &M,
    inside: &dyn Fn(&str) -> bool,
    round_scales: bool,
) -> Result<M, QuantizeError> {
    let mut table = HashMap::new();
    for (path, attached) in attached(trained) {
        let Attached::Fake {
            weight,
            scales,
            zero_points,
            scheme,
        } = attached
        else {
            continue;
        };
        if !inside(&path) {
            continue;
        }
        let packed = pack_weight(&path, weight, scales, zero_points, scheme.bits)?;
        let mut scales = packed.scales.clone();
        if round_scales {
            scales = to_stored(scales);
        }
        table.insert(path, (scales, Packed::from_weight(packed, scheme)));
    }
    let mut values = Values {
        walk: Walk::default(),
        inside,
        values: HashMap::new(),
    };
    trained.visit(&mut values);
    values.values.retain(|path, _| !table.contains_key(path));
    let model = model.map(&mut values);
    Ok(model.apply_reparameterization(AttachPacked { table }))
}

/// The parameters of a part by path, collected from one module and put into another.
struct Values<'a> {
    walk: Walk,
    inside: &'a dyn Fn(&str) -> bool,
    /// Each is a tensor of its parameter's rank and kind.
    values: HashMap<String, Box<dyn Any>>,
}

impl Values<'_> {
    fn collect<T: 'static>(&mut self, value: impl FnOnce() -> T) {
        let path = self.walk.path();
        if !self.walk.is_attached() && (self.inside)(&path) {
            self.values.insert(path, Box::new(value()));
        }
    }

    fn take<T: 'static>(&mut self) -> Option<T> {
        let value = self.values.remove(&self.walk.path())?;
        Some(*value.downcast::<T>().ok()?)
    }
}

impl ModuleVisitor for Values<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.walk.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.walk.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.collect(|| param.base());
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.collect(|| param.val());
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.collect(|| param.val());
    }
}

impl ModuleMapper for Values<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.walk.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.walk.exit();
    }
    // New parameters in the place of those that have no data: mapping them would make it.
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.take::<Tensor<D>>() {
            Some(value) if param.is_initialized() => param.map(|_| value),
            // As it would be made.
            Some(value) => Param::initialized(param.id, value).set_require_grad(true),
            None => param,
        }
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        match self.take::<Tensor<D, Int>>() {
            Some(value) => Param::initialized(param.id, value),
            None => param,
        }
    }
    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        match self.take::<Tensor<D, Bool>>() {
            Some(value) => Param::initialized(param.id, value),
            None => param,
        }
    }
}
