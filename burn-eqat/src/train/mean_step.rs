//! The mean step size of packed weights.

use crate::module::packed_weights;
use burn::module::Module;

/// The mean over weights of the mean step size of each, by how many numbers they have.
#[derive(Default)]
pub(super) struct MeanStep {
    sum: f64,
    weights: f64,
}

impl MeanStep {
    /// Adds the packed weights of a module whose paths are chosen.
    pub fn add<M: Module>(&mut self, module: &M, chosen: &dyn Fn(&str) -> bool) {
        for (path, packed) in packed_weights(module) {
            if !chosen(&path) {
                continue;
            }
            let (scales, rows) = (packed.weight.scales, packed.weight.d_input);
            let weights = (rows * scales.dims()[1]) as f64;
            let mean: f64 = scales.detach().mean().into_scalar();
            self.sum += mean * weights;
            self.weights += weights;
        }
    }

    /// The mean; 0 without weights.
    pub fn value(&self) -> f64 {
        match self.weights > 0.0 {
            true => self.sum / self.weights,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quantize, Weights};
    use burn::module::Param;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn large_weights_count_more() {
        let device = Device::flex();
        let packed = |columns: usize, step: f32| {
            let mut linear = LinearConfig::new(4, columns).init(&device);
            let column = [[-step], [0.0], [2.0 * step], [step]];
            let weight = Tensor::<2>::from_floats(column, &device).repeat_dim(1, columns);
            linear.weight = Param::from_tensor(weight);
            let scheme: crate::Scheme = "w2g4".parse().unwrap();
            linear.quantize_rtn(&Weights::linears(), scheme).unwrap()
        };
        let mut mean = MeanStep::default();
        assert_eq!(mean.value(), 0.0);
        mean.add(&packed(3, 0.25), &|_| true);
        mean.add(&packed(1, 0.75), &|_| true);
        mean.add(&packed(9, 9.0), &|_| false);
        assert!((mean.value() - 0.375).abs() < 1e-6, "{}", mean.value());
    }
}
