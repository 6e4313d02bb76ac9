//! Packs the trained part of a model in training, and puts it back into the model.

use super::attached::{Attached, attached};
use super::quantize::map::to_stored;
use super::quantize::pack::{AttachPacked, pack_weight};
use super::walk::Walk;
use super::{Packed, QuantizeError};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::any::Any;
use std::collections::HashMap;

/// Puts a part of `trained` into `model`, which is the same model without fake quantization in that part.
/// Fake-quantized weights become packed ones, all other floats are copied. `inside` says which paths are in the part.
/// The rest of `model` does not change.
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
    let mut floats = Floats {
        walk: Walk::default(),
        inside,
        values: HashMap::new(),
    };
    trained.visit(&mut floats);
    floats.values.retain(|path, _| !table.contains_key(path));
    let model = model.map(&mut floats);
    Ok(model.apply_reparameterization(AttachPacked { table }))
}

/// The float parameters of a part by path, collected from one module and put into another.
struct Floats<'a> {
    walk: Walk,
    inside: &'a dyn Fn(&str) -> bool,
    /// Each is a `Tensor<D>` of its parameter's rank.
    values: HashMap<String, Box<dyn Any>>,
}

impl ModuleVisitor for Floats<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.walk.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.walk.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.walk.path();
        if !self.walk.is_attached() && (self.inside)(&path) {
            let value: Tensor<D> = param.base();
            self.values.insert(path, Box::new(value));
        }
    }
}

impl ModuleMapper for Floats<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.walk.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.walk.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.remove(&self.walk.path());
        match value.and_then(|value| value.downcast::<Tensor<D>>().ok()) {
            Some(value) => param.map(|_| *value),
            None => param,
        }
    }
}
