//! For comparison: Burn's matmul with a dense weight.

use crate::measure::{copies, median};
use crate::work::Op;
use burn::tensor::{Device, Distribution, FloatDType, Tensor};

/// Seconds of the dense counterpart of an op: the layer's matmul for `forward`, the gradients by its input and
/// by its weight for the two backward ops, none for fake quantization.
pub fn time(
    op: Op,
    [m, k, n]: [usize; 3],
    dtype: FloatDType,
    device: &Device,
    budget: f64,
) -> Option<f64> {
    let tensor = |shape: [usize; 2]| {
        Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), device).cast(dtype)
    };
    let (left, right): (Tensor<2>, Vec<Tensor<2>>) = match op {
        Op::Packed | Op::Forward => {
            let weights = (0..copies(k * n * 2)).map(|_| tensor([k, n]));
            (tensor([m, k]), weights.collect())
        }
        Op::Input => {
            let weights = (0..copies(k * n * 2)).map(|_| tensor([k, n]).transpose());
            (tensor([m, n]), weights.collect())
        }
        Op::Scale => (tensor([m, k]).transpose(), vec![tensor([m, n])]),
        Op::Fake => return None,
    };
    Some(median(device, budget, |call| {
        drop(left.clone().matmul(right[call % right.len()].clone()));
    }))
}
