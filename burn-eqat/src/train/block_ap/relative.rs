//! Hidden states in units of the target's own size.

use crate::compute_type::widen;
use crate::train::{FlowMapper, Hidden};
use burn::tensor::Tensor;
use std::any::Any;

/// An output and its target, both divided by the root mean square of the target at each position: along the last dimension of
/// each tensor. Where the target is nothing but zeros, by a thousandth.
///
/// Of the squares that are then summed each position's are in proportion to its own size, so a few positions whose values are
/// hundreds of times the others' (massive activations) do not drown all others.
pub(super) fn relative_to_positions<H: Hidden>(output: H, target: H) -> (H, H) {
    let mut sizes = Sizes(Vec::new());
    let target = target.map_tensors(&mut sizes);
    let mut divided = Divided(sizes.0.into_iter());
    (output.map_tensors(&mut divided), target)
}

/// What a size is at least.
const SMALLEST: f64 = 1e-3;

/// Divides each tensor by the sizes of its positions, and keeps them.
struct Sizes(Vec<Box<dyn Any>>);

impl FlowMapper for Sizes {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let tensor = widen(tensor);
        let Some(last) = D.checked_sub(1) else {
            return tensor;
        };
        let sizes = tensor.clone().square().mean_dim(last).sqrt();
        let sizes = sizes.clamp_min(SMALLEST);
        self.0.push(Box::new(sizes.clone()));
        tensor / sizes
    }
}

/// Divides tensors by the sizes of others of the same shapes, in the same order.
struct Divided<I>(I);

impl<I: Iterator<Item = Box<dyn Any>>> FlowMapper for Divided<I> {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let sizes = self.0.next();
        match sizes.and_then(|sizes| sizes.downcast::<Tensor<D>>().ok()) {
            Some(sizes) => widen(tensor) / *sizes,
            // Of another shape than its target: that is for the model to say.
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
            &TensorData::from([[0.01f32, 0.01], [0.01, 0.01]]),
            Tolerance::<f32>::relative(1e-3),
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
        assert_eq!(output.mse(target).into_scalar::<f32>(), 0.25);
    }
}
