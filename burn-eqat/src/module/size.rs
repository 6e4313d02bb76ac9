use super::LayerSize;
use super::walk::Walk;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The size of a module: of its packed weights and of the rest.
///
/// Sizes are those in the files that [`save`](crate::Quantize::save) writes: packed codes and zero points, step sizes in 16 bits
/// where that loses nothing ([round](crate::Quantize::round_scales) them for that) and else in 32, and other floats in the type
/// that they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SizeReport {
    /// Weights that are packed.
    pub packed_weights: usize,
    /// Bytes of the packed weights' codes, step sizes and zero points.
    pub packed_bytes: usize,
    /// Parameters that are not packed.
    pub dense_params: usize,
    /// Bytes of those.
    pub dense_bytes: usize,
}

impl SizeReport {
    /// Of the parameters of a module whose paths are `inside`.
    pub(crate) fn of_part<M: Module>(module: &M, inside: &dyn Fn(&str) -> bool) -> Self {
        struct Floats<'a> {
            walk: Walk,
            inside: &'a dyn Fn(&str) -> bool,
            params: usize,
            bytes: usize,
        }
        impl ModuleVisitor for Floats<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.walk.enter(name, container);
            }
            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.walk.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !self.walk.is_attached() && (self.inside)(&self.walk.path()) {
                    let count = param.lazy_shape().num_elements();
                    self.params += count;
                    self.bytes += count * param.base().dtype().size();
                }
            }
        }
        let mut floats = Floats {
            walk: Walk::default(),
            inside,
            params: 0,
            bytes: 0,
        };
        module.visit(&mut floats);
        let mut report = SizeReport {
            dense_params: floats.params,
            dense_bytes: floats.bytes,
            ..Default::default()
        };
        let packed = super::packed_weights(module).into_iter();
        for (path, packed) in packed.filter(|(path, _)| inside(path)) {
            // The step sizes were counted as plain parameters above.
            let scales = &packed.weight.scales;
            report.dense_params -= scales.shape().num_elements();
            report.dense_bytes -= scales.shape().num_elements() * scales.dtype().size();
            let layer = LayerSize::of(path, packed);
            report.packed_weights += layer.weights;
            report.packed_bytes += layer.bytes;
        }
        report
    }

    /// Of two parts together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            packed_weights: self.packed_weights + other.packed_weights,
            packed_bytes: self.packed_bytes + other.packed_bytes,
            dense_params: self.dense_params + other.dense_params,
            dense_bytes: self.dense_bytes + other.dense_bytes,
        }
    }

    /// Bits per packed weight, including step sizes and zero points; 0 if nothing is packed.
    pub fn bits_per_weight(&self) -> f64 {
        match self.packed_weights {
            0 => 0.0,
            weights => 8.0 * self.packed_bytes as f64 / weights as f64,
        }
    }

    /// Bytes in total.
    pub fn bytes(&self) -> usize {
        self.packed_bytes + self.dense_bytes
    }
}
