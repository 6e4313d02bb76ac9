use super::head::{is_cast, logits, times_rows};
use crate::compute_type::{in_type, widen};
use crate::kernels::transformer::exp;
use burn::tensor::{Int, Tensor};

/// The number of logits in memory at a time.
const LOGITS: usize = 1 << 20;

/// The least number of positions at a time where the weight is cast for them.
const CAST_ROWS: usize = 256;

/// [`next_token_loss`](super::next_token_loss) from the input of an output layer that is not trained. The
/// logits of all positions are never in memory at once.
///
/// Each chunk of positions gives its losses and, if gradients are recorded, their gradient by `hidden`:
/// `(softmax(h W) - onehot) W^T`. So logits are used while they are in a cache, and are not kept for the
/// backward pass.
///
/// # Shapes
///
/// - `hidden`: `[batch, seq, width]`, the output of the last norm
/// - `head`: `[width, vocab]`, which gets no gradient and may be in half precision, as its file has it
/// - `tokens`: `[batch, seq]`
/// - output: `[1]`; products and losses are in f32
pub fn frozen_head_loss(hidden: Tensor<3>, head: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<1> {
    let [batch, seq, width] = hidden.dims();
    let rows = batch * (seq - 1);
    let hidden = widen(hidden.slice_dim(1, 0..seq - 1)).reshape([rows, width]);
    let targets = tokens.slice_dim(1, 1..seq).reshape([rows]).inner();
    let tracked = hidden.is_autodiff();
    let (loss, gradients) = in_chunks(hidden.clone().inner(), head.inner(), targets, tracked);
    if !tracked {
        return loss;
    }
    // A product whose gradient by `hidden` is the one worked out, moved to the value of the loss.
    let gradient = Tensor::from_inner(Tensor::cat(gradients, 0) / rows as f64);
    let slope = (hidden * gradient).sum();
    slope.clone() + (Tensor::from_inner(loss) - slope.detach())
}

/// The mean loss of `targets [rows]` from `hidden [rows, width]` and, on request, `rows` times its gradient
/// by each chunk of `hidden`.
fn in_chunks(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    with_gradients: bool,
) -> (Tensor<1>, Vec<Tensor<2>>) {
    let ([rows, _], [_, vocab]) = (hidden.dims(), head.dims());
    let least = if is_cast(&head) { CAST_ROWS } else { 16 };
    let chunk = (LOGITS / vocab).max(least).min(rows.max(16));
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(chunk) {
        let range = first..(first + chunk).min(rows);
        let targets = targets.clone().slice_dim(0, range.clone());
        let logits = logits(hidden.clone().slice_dim(0, range), &head);
        let target = logits.clone().gather(1, targets.clone().unsqueeze_dim(1));
        let largest = logits.clone().max_dim(1);
        let weights = exp(logits - largest.clone());
        let sum = weights.clone().sum_dim(1);
        losses.push((sum.clone().log() + largest - target).sum());
        if with_gradients {
            let expected = times_rows(&weights, &head) / sum;
            let own = head.clone().transpose().select(0, targets);
            let dtype = expected.dtype();
            gradients.push(expected - in_type(own, dtype));
        }
    }
    (Tensor::cat(losses, 0).sum() / rows as f64, gradients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::next_token_loss;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn it_is_the_loss_of_all_logits_with_its_gradient() {
        let device = Device::flex();
        device.seed(5);
        // More positions than one chunk has.
        let (batch, seq, width, vocab) = (2, 35, 8, 1 << 15);
        let uniform = Distribution::Uniform(-1.0, 1.0);
        let hidden = Tensor::<3>::random([batch, seq, width], uniform, &device);
        let head = Tensor::<2>::random([width, vocab], uniform, &device);
        let ids = Distribution::Uniform(0.0, vocab as f64 - 1.0);
        let tokens = Tensor::<2>::random([batch, seq], ids, &device).int();

        let leaf = || Tensor::from_inner(hidden.clone()).require_grad();
        let (whole, chunked) = (leaf(), leaf());
        let tracked = || {
            (
                Tensor::from_inner(head.clone()),
                Tensor::from_inner(tokens.clone()),
            )
        };
        let (all_head, all_tokens) = tracked();
        let expected = next_token_loss(whole.clone().matmul(all_head.unsqueeze()), all_tokens);
        let (all_head, all_tokens) = tracked();
        let actual = frozen_head_loss(chunked.clone(), all_head, all_tokens);
        let close = |actual: &Tensor<1>, expected: &Tensor<1>| {
            let value = |tensor: &Tensor<1>| tensor.clone().into_scalar::<f64>();
            let (actual, expected) = (value(actual), value(expected));
            assert!(
                (actual - expected).abs() < 1e-5 * expected.abs(),
                "{actual} {expected}"
            );
        };
        close(&actual, &expected);
        let plain = frozen_head_loss(hidden, head, tokens);
        assert!(!plain.is_autodiff());
        close(&plain, &expected);

        let (expected, actual) = (expected.backward(), actual.backward());
        let expected = whole.grad(&expected).unwrap();
        let difference = chunked.grad(&actual).unwrap() - expected.clone();
        let size = |tensor: Tensor<3>| tensor.abs().max().into_scalar::<f64>();
        assert!(size(difference) < 1e-5 * size(expected));
    }
}
