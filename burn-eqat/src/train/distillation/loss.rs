use super::DistillationConfig;
use crate::compute_type::widen;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// How far a model's predictions are from its original's, mixed with the cross-entropy of the right classes.
///
/// With `w` the weight of the [configuration](DistillationConfig), `t` its temperature, `P` the original's predictions and `Q` the
/// model's, it is the mean over rows of
///
/// ```text
/// w t^2 KL(P_t | Q_t) + (1 - w) (-log Q(target))
/// ```
///
/// A language model whose output layer is not trained has `lm::frozen_head_distillation`, which keeps no logits.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat::train::{DistillationConfig, distillation_loss};
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::from_data([[0.0, 0.0]], &device);
/// let original = Tensor::<2>::from_data([[3f32.ln(), 0.0]], &device);
/// let targets = Tensor::<1, Int>::from_data([0], &device);
/// let loss = distillation_loss(logits, original, targets, DistillationConfig::new());
/// // P = (3/4, 1/4), Q = (1/2, 1/2)
/// let expected = 0.75 * 1.5f32.ln() + 0.25 * 0.5f32.ln();
/// assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
/// ```
///
/// # Shapes
///
/// - `logits`: `[rows, classes]`, the model's
/// - `teacher`: `[rows, classes]`, the original's, which get no gradient; where gradients are recorded or not
/// - `targets`: `[rows]`
/// - output: `[1]`, in f32 if the logits are in half precision
pub fn distillation_loss(
    logits: Tensor<2>,
    teacher: Tensor<2>,
    targets: Tensor<1, Int>,
    config: DistillationConfig,
) -> Tensor<1> {
    let DistillationConfig {
        temperature,
        weight,
    } = config;
    let (logits, teacher) = (widen(logits), widen(teacher));
    let expected = log_softmax(teacher / temperature, 1);
    let expected = if logits.is_autodiff() && !expected.is_autodiff() {
        Tensor::from_inner(expected)
    } else {
        expected.detach()
    };
    let found = log_softmax(logits.clone() / temperature, 1);
    let divergence = (expected.clone().exp() * (expected - found)).sum_dim(1);
    let loss = divergence.mean() * (weight * temperature * temperature);
    if weight == 1.0 {
        return loss;
    }
    let right = log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1));
    loss - right.mean() * (1.0 - weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// By hand: `P = (3/4, 1/4)`, `Q = (1/2, 1/2)`.
    #[test]
    fn it_is_the_divergence_of_predictions_and_the_cross_entropy() {
        let device = Device::flex();
        let row = |first: f32| Tensor::<2>::from_data([[first, 0.0]], &device);
        let loss = |config| {
            let targets = Tensor::from_data([0], &device);
            let loss = distillation_loss(row(0.0), row(3f32.ln()), targets, config);
            loss.into_scalar::<f64>()
        };
        let divergence = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        let config = DistillationConfig::new();
        assert!((loss(config) - divergence).abs() < 1e-6);
        let mixed = 0.25 * divergence + 0.75 * 2f64.ln();
        assert!((loss(config.with_weight(0.25)) - mixed).abs() < 1e-6);
        // At temperature 2: P = (sqrt 3, 1) / (1 + sqrt 3).
        let p = 3f64.sqrt() / (1.0 + 3f64.sqrt());
        let softer = p * (2.0 * p).ln() + (1.0 - p) * (2.0 * (1.0 - p)).ln();
        assert!((loss(config.with_temperature(2.0)) - 4.0 * softer).abs() < 1e-6);
    }
}
