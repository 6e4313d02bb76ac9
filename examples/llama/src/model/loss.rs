//! The next-token loss without the logits of every position at once.

use burn::tensor::{Int, Tensor};
use burn_eqat::kernels::exp;

/// Logits that are there at a time.
const LOGITS: usize = 1 << 20;

/// Mean cross-entropy of `targets [rows]` behind a frozen output layer `[width, vocab]`, in nats: `[1]`,
/// with gradients by `hidden [rows, width]`.
///
/// A chunk of rows at a time gives its losses and, where gradients are recorded, what they ask of
/// `hidden`: `(softmax(h W) - onehot) W^T`. So the logits are made once, used while they are in a cache,
/// and not kept for the backward pass.
pub(super) fn frozen_head_loss(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let tracked = hidden.is_autodiff();
    let plain = |tensor: Tensor<2>| match tensor.is_autodiff() {
        true => tensor.inner(),
        false => tensor,
    };
    let (inner, head) = (plain(hidden.clone()), plain(head));
    let targets = match targets.is_autodiff() {
        true => targets.inner(),
        false => targets,
    };
    let ([rows, _], [_, vocab]) = (inner.dims(), head.dims());
    let chunk = (LOGITS / vocab).clamp(16, rows.max(16));
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(chunk) {
        let range = first..(first + chunk).min(rows);
        let targets = targets.clone().slice_dim(0, range.clone());
        let logits = inner.clone().slice_dim(0, range).matmul(head.clone());
        let target = logits.clone().gather(1, targets.clone().unsqueeze_dim(1));
        let largest = logits.clone().max_dim(1);
        let weights = exp(logits - largest.clone());
        let sum = weights.clone().sum_dim(1);
        losses.push((sum.clone().log() + largest - target).sum());
        if tracked {
            let rows_of_head = head.clone().transpose();
            let expected = weights.matmul(rows_of_head.clone()) / sum;
            gradients.push(expected - rows_of_head.select(0, targets));
        }
    }
    let loss = Tensor::cat(losses, 0).sum() / rows as f64;
    if !tracked {
        return loss;
    }
    // A product whose gradient by `hidden` is the one worked out, moved to the value of the loss.
    let gradient = Tensor::from_inner(Tensor::cat(gradients, 0) / rows as f64);
    let slope = (hidden * gradient).sum();
    slope.clone() + (Tensor::from_inner(loss) - slope.detach())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::next_token_loss;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn it_is_the_loss_of_all_logits_with_its_gradient() {
        let device = Device::flex();
        device.seed(5);
        // More positions than one chunk has.
        let (seq, width, vocab) = (70, 8, 1 << 15);
        let uniform = Distribution::Uniform(-1.0, 1.0);
        let hidden = Tensor::<2>::random([seq, width], uniform, &device);
        let head = Tensor::<2>::random([width, vocab], uniform, &device);
        let tokens = Tensor::<1>::random(
            [seq],
            Distribution::Uniform(0.0, vocab as f64 - 1.0),
            &device,
        );
        let tokens = tokens.int();

        let leaf = || Tensor::from_inner(hidden.clone()).require_grad();
        let (whole, chunked) = (leaf(), leaf());
        let logits = whole.clone().matmul(Tensor::from_inner(head.clone()));
        let all = tokens.clone().unsqueeze_dim::<2>(0);
        let expected = next_token_loss(logits.unsqueeze_dim(0), Tensor::from_inner(all));
        let actual = frozen_head_loss(
            chunked.clone().slice_dim(0, 0..seq - 1),
            Tensor::from_inner(head.clone()),
            Tensor::from_inner(tokens.clone().slice_dim(0, 1..seq)),
        );
        let close = |actual: f64, expected: f64| {
            assert!((actual - expected).abs() < 1e-5 * expected.abs().max(1e-3));
        };
        close(
            actual.clone().into_scalar::<f64>(),
            expected.clone().into_scalar::<f64>(),
        );
        let (expected, actual) = (expected.backward(), actual.backward());
        let expected = whole.grad(&expected).unwrap();
        let difference = chunked.grad(&actual).unwrap() - expected.clone();
        let size = |t: Tensor<2>| t.abs().max().into_scalar::<f64>();
        assert!(size(difference) < 1e-5 * size(expected));

        let plain = frozen_head_loss(
            hidden.slice_dim(0, 0..seq - 1),
            head,
            tokens.slice_dim(0, 1..seq),
        );
        assert!(!plain.is_autodiff());
    }
}
