use super::attached::QuantizedWeight;
use crate::Scheme;
use crate::files::stored_scales;
use burn::module::Module;
use serde::{Deserialize, Serialize};

/// The size of one packed weight in files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSize {
    /// Its path in the model.
    pub path: String,
    /// Its bits, group size and symmetry.
    pub scheme: Scheme,
    /// Weights in it.
    pub weights: usize,
    /// Bytes of its codes, step sizes and zero points.
    pub bytes: usize,
}

impl LayerSize {
    /// Each packed weight of a module whose path is `inside`, in the order in which the module has them.
    pub(crate) fn of_part<M: Module>(module: &M, inside: &dyn Fn(&str) -> bool) -> Vec<Self> {
        let weights = super::packed_weights(module).into_iter();
        weights
            .filter(|(path, _)| inside(path))
            .map(|(path, weight)| Self::of(path, weight))
            .collect()
    }

    /// A packed weight.
    pub(super) fn of(path: String, packed: QuantizedWeight) -> Self {
        let weight = packed.weight;
        let words = weight.codes.shape().num_elements() + weight.zero_points.shape().num_elements();
        Self {
            path,
            scheme: packed.scheme,
            weights: weight.d_input * weight.d_output(),
            bytes: 4 * words + stored_scales(weight.scales.into_data()).as_bytes().len(),
        }
    }

    /// Bits of a weight, step sizes and zero points counted.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes as f64 / self.weights.max(1) as f64
    }
}
