//! Hidden states in units of the target's own size.

use crate::compute_type::widen;
use crate::train::{FlowMapper, Hidden};
use burn::tensor::Tensor;
use std::any::Any;

/// An output and its target, both divided by the root mean square of the target at each position: along the last dimension of
/// each tensor. Where the target is nothing but zeros, by a thousandth.
///
/// Of the squares that are then summed each position's are in proportion to its own size, so a few positions whose values are
/// hundreds of times the others' (massive activations) do not drown all others. A position that is massive in the output alone would be
/// thousands of times off: so each position also counts the less, the further off it is, by `1 / (1 + r)` for a relative squared error
/// of `r`. (The gradient is that of the sum of `log(1 + r)`, Cauchy's loss.)
pub(super) fn relative_to_positions<H: Hidden>(output: H, target: H) -> (H, H) {
    let mut sizes = Sizes(Vec::new());
    let target = target.map_tensors(&mut sizes);
    let mut compared = Compared {
        targets: sizes.0.into_iter(),
        weights: Vec::new(),
    };
    let output = output.map_tensors(&mut compared);
    let mut weighted = Weighted(compared.weights.into_iter());
    (output, target.map_tensors(&mut weighted))
}

/// What a size is at least.
const SMALLEST: f64 = 1e-3;

/// Divides each tensor by the sizes of its positions, and keeps it with them.
struct Sizes(Vec<Box<dyn Any>>);

impl FlowMapper for Sizes {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let tensor = widen(tensor);
        let Some(last) = D.checked_sub(1) else {
            return tensor;
        };
        let sizes = tensor.clone().square().mean_dim(last).sqrt();
        let sizes = sizes.clamp_min(SMALLEST);
        let divided = tensor / sizes.clone();
        self.0.push(Box::new((divided.clone(), sizes)));
        divided
    }
}

/// Divides tensors by the sizes of their targets, which come in the same order, and weights their positions.
struct Compared<I> {
    targets: I,
    weights: Vec<Box<dyn Any>>,
}

impl<I: Iterator<Item = Box<dyn Any>>> FlowMapper for Compared<I> {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let target = self.targets.next();
        let target = target.and_then(|target| target.downcast::<(Tensor<D>, Tensor<D>)>().ok());
        // Of another shape than its target: that is for the model to say.
        let Some((target, sizes)) = target.map(|target| *target) else {
            self.weights.push(Box::new(()));
            return tensor;
        };
        if target.dims() != tensor.dims() {
            self.weights.push(Box::new(()));
            return tensor;
        }
        let divided = widen(tensor) / sizes;
        let error = (divided.clone() - target).detach().square();
        let weights = (error.mean_dim(D - 1) + 1.0).recip().sqrt();
        self.weights.push(Box::new(weights.clone()));
        divided * weights
    }
}

/// Weights the positions of the targets as those of the outputs.
struct Weighted<I>(I);

impl<I: Iterator<Item = Box<dyn Any>>> FlowMapper for Weighted<I> {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let weights = self.0.next();
        match weights.and_then(|weights| weights.downcast::<Tensor<D>>().ok()) {
            Some(weights) => tensor * *weights,
            None => tensor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData, Tolerance};

    #[test]
    fn each_position_counts_the_same() {
        let device = Device::flex();
        // The error is a tenth of the root mean square at both positions, one of which is a thousand times as large.
        let target = Tensor::<2>::from_floats([[1.0, -1.0], [1000.0, 1000.0]], &device);
        let output = Tensor::<2>::from_floats([[1.1, -1.1], [900.0, 1100.0]], &device);
        let error = |output: Tensor<2>, target: Tensor<2>| (output - target).square();
        let (output, target) = relative_to_positions(output, target);
        error(output, target).into_data().assert_approx_eq(
            &TensorData::from([[0.01f32 / 1.01; 2]; 2]),
            Tolerance::<f32>::relative(1e-3),
        );
    }

    #[test]
    fn what_is_far_off_counts_at_most_as_much_as_its_size() {
        let device = Device::flex().autodiff();
        let target = Tensor::<2>::from_floats([[1.0, 1.0], [1.0, 1.0]], &device);
        let output = Tensor::<2>::from_floats([[1.5, 1.5], [1001.0, 1001.0]], &device);
        let output = output.require_grad();
        let (weighted, target) = relative_to_positions(output.clone(), target);
        let error = (weighted - target).square();
        let grads = error.clone().sum().backward();
        error.into_data().assert_approx_eq(
            &TensorData::from([[0.25f32 / 1.25; 2], [1.0; 2]]),
            Tolerance::<f32>::relative(1e-3),
        );
        // Of the sum of the logarithms, for which both elements of a position count.
        let expected = [[1.0f32 / 1.25; 2], [2e-3; 2]];
        let grad = output.grad(&grads).unwrap();
        grad.into_data().assert_approx_eq(
            &TensorData::from(expected),
            Tolerance::<f32>::relative(1e-2),
        );
    }

    #[test]
    fn pairs_go_by_their_own_sizes_and_zeros_stay_finite() {
        let device = Device::flex();
        let pair = |scale: f32| {
            let first = Tensor::<2>::ones([1, 2], &device) * scale;
            (first, Tensor::<3>::zeros([1, 1, 3], &device))
        };
        let (output, target) = relative_to_positions(pair(3.0), pair(2.0));
        // A relative squared error of a quarter.
        let error = output.mse(target).into_scalar::<f32>();
        assert!((error - 0.25 / 1.25).abs() < 1e-6, "{error}");
    }
}
