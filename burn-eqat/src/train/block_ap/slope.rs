//! The loss of a sample, and its gradients.

use super::BlockSample;
use super::loss::BlockLoss;
use crate::train::clip::scale_grads;
use crate::train::{Blockwise, TrainError};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};

/// What a sample gives.
pub(super) struct Slope {
    /// The loss as a number, and where no gradients are recorded.
    pub value: f64,
    pub loss: Tensor<1>,
    /// None where the loss is not finite.
    pub grads: GradientsParams,
}

impl Slope {
    /// Of a sample; `model` records gradients.
    pub fn of<M: Blockwise>(
        model: &M,
        loss: &BlockLoss,
        sample: BlockSample<M>,
    ) -> Result<Self, TrainError> {
        let loss = loss.of(model, sample.train())?;
        let value: f64 = loss.clone().inner().into_scalar();
        let grads = if value.is_finite() {
            GradientsParams::from_grads(loss.backward(), model)
        } else {
            GradientsParams::new()
        };
        Ok(Self {
            value,
            loss: loss.inner(),
            grads,
        })
    }

    /// The mean of several, one after the other added up where the model is. A loss that is not finite is that of all.
    pub fn mean<M: Blockwise>(model: &M, device: &Device, slopes: Vec<Self>) -> Self {
        let count = slopes.len() as f64;
        let mut all = GradientsAccumulator::new();
        let (mut value, mut loss): (f64, Option<Tensor<1>>) = (0.0, None);
        for slope in slopes {
            value += slope.value;
            let one = slope.loss.to_device(device);
            loss = Some(match loss {
                Some(sum) => sum + one,
                None => one,
            });
            all.accumulate(model, slope.grads.to_device(device, model));
        }
        let loss = loss.unwrap_or_else(|| Tensor::zeros([1], device));
        Self {
            value: value / count.max(1.0),
            loss: loss / count.max(1.0),
            grads: scale_grads(model, all.grads(), 1.0 / count.max(1.0)),
        }
    }
}
