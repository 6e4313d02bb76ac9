//! Massive activations: a few positions whose hidden values are tens or hundreds of times those of the others.

use super::{BlockSample, ReconstructionLoss};
use crate::compute_type::widen;
use crate::train::{Blockwise, FlowMapper, FlowTensors, TrainError};
use burn::tensor::Tensor;

/// Steps whose samples are looked at.
const STEPS: usize = 16;

/// A position is massive that is that many times as large as the median.
const MASSIVE: f32 = 20.0;

/// The loss that suits the targets of these samples: the relative one if a position is massive.
pub(super) fn suited_loss<M: Blockwise>(
    steps: impl Iterator<Item = Result<Vec<BlockSample<M>>, TrainError>>,
) -> Result<ReconstructionLoss, TrainError> {
    let mut sizes = Sizes::default();
    for samples in steps.take(STEPS) {
        for sample in samples? {
            sizes.next = 0;
            sample.target.map_tensors(&mut sizes);
        }
    }
    Ok(match sizes.of.into_iter().any(is_uneven) {
        true => ReconstructionLoss::Relative,
        false => ReconstructionLoss::Squared,
    })
}

/// Whether the largest is far from the middle.
fn is_uneven(mut sizes: Vec<f32>) -> bool {
    sizes.retain(|size| size.is_finite());
    sizes.sort_by(f32::total_cmp);
    match (sizes.get(sizes.len() / 2), sizes.last()) {
        (Some(median), Some(largest)) => *largest > MASSIVE * median.max(f32::MIN_POSITIVE),
        _ => false,
    }
}

/// The root mean square of each position, along the last dimension, of each tensor of a flow.
#[derive(Default)]
struct Sizes {
    of: Vec<Vec<f32>>,
    /// The tensor that comes next.
    next: usize,
}

impl FlowMapper for Sizes {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        if let Some(last) = D.checked_sub(1) {
            let sizes = widen(tensor.clone()).square().mean_dim(last).sqrt();
            if self.of.len() <= self.next {
                self.of.push(Vec::new());
            }
            self.of[self.next].extend(sizes.into_data().iter::<f32>());
            self.next += 1;
        }
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn one_large_position_among_many_is_massive() {
        let device = Device::flex();
        let mut sizes = Sizes::default();
        let rows = |largest: f32| {
            let mut rows = vec![[1.0, -1.0]; 9];
            rows.push([largest, largest]);
            let rows: Vec<f32> = rows.concat();
            Tensor::<1>::from_floats(rows.as_slice(), &device).reshape([10, 2])
        };
        let _: Tensor<2> = rows(19.0).map_tensors(&mut sizes);
        sizes.next = 0;
        let _: Tensor<2> = rows(3.0).map_tensors(&mut sizes);
        assert_eq!(sizes.of.len(), 1);
        assert_eq!(sizes.of[0].len(), 20);
        assert!(!is_uneven(sizes.of[0].clone()));
        let _: Tensor<2> = rows(21.0).map_tensors(&mut sizes);
        // Another tensor of the flow: it is compared with itself.
        assert!(is_uneven(sizes.of[1].clone()));
        assert!(!is_uneven(Vec::new()));
    }
}
