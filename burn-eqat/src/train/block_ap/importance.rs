//! How much the rows of a block's weights matter for what comes out of it.

use super::BlockSample;
use super::loss::BlockLoss;
use crate::compute_type::widen;
use crate::module::Selected;
use crate::train::matrix_grads::for_each_matrix_grad;
use crate::train::trained::train_only;
use crate::train::{Blockwise, FlowMapper, FlowTensors, TrainError};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

/// Steps' samples that the importance is estimated from.
const STEPS: usize = 16;

/// The importance of each row of the selected weights of a block, `[d_input]`, by the paths of the weights.
///
/// It is the sum over a row's weights of the mean square of the gradient of `sum(r y)`, where `y` is what the loss compares, and `r` are random signs. Its
/// expectation is the sum of the squares of the derivatives of all `y`: by how much the squared error of the block grows with the square
/// of an error in that row, the weights' errors being independent.
pub(super) fn importance<M: Blockwise>(
    model: &M,
    loss: &BlockLoss,
    selected: &[Selected],
    steps: impl Iterator<Item = Result<Vec<BlockSample<M>>, TrainError>>,
) -> Result<HashMap<String, Tensor<1>>, TrainError> {
    let chosen = |path: &str| selected.iter().any(|weight| weight.path == path);
    let model = train_only(model.clone().train(), &chosen);
    let mut rows = HashMap::<String, Tensor<1>>::new();
    // A block that trains again starts from the same values.
    let mut signs = Signs {
        random: StdRng::seed_from_u64(loss.index as u64),
        sum: None,
    };
    for samples in steps.take(STEPS) {
        // Together, whether they are one sample or one of each device.
        let mut grads = GradientsAccumulator::new();
        for sample in samples? {
            let (output, _) = loss.compared(&model, sample.train())?;
            output.map_tensors(&mut signs);
            if let Some(sum) = signs.sum.take() {
                let of_sample = GradientsParams::from_grads(sum.backward(), &model);
                grads.accumulate(&model, of_sample);
            }
        }
        for_each_matrix_grad(&model, grads.grads(), &mut |path, grad| {
            let count = grad.dims()[0];
            let sum = grad.square().sum_dim(1).reshape([count]);
            let sum = match rows.remove(&path) {
                Some(all) => all + sum,
                None => sum,
            };
            rows.insert(path, sum);
        });
    }
    Ok(rows)
}

/// Adds up tensors, each element with a random sign.
struct Signs {
    random: StdRng,
    sum: Option<Tensor<1>>,
}

impl FlowMapper for Signs {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let shape = tensor.dims();
        let wide = widen(tensor.clone());
        let signs: Vec<f32> = (0..shape.iter().product())
            .map(|_| if self.random.random() { 1.0 } else { -1.0 })
            .collect();
        let signs = TensorData::new(signs, shape);
        let signs = Tensor::<D>::from_data(signs, (&wide.device(), wide.dtype()));
        let sum = (wide * signs).sum();
        self.sum = Some(match self.sum.take() {
            Some(all) => all + sum,
            None => sum,
        });
        tensor
    }
}
