use super::head::{for_products, is_cast, logits, times_rows, with_gradient};
use super::loss::{rows_before, targets_of};
use crate::compute_type::in_type;
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
/// ```
/// use burn::tensor::{Device, Distribution, Int, Tensor};
/// use burn_eqat::lm::{frozen_head_loss, head_logits, next_token_loss};
///
/// let device = Device::flex();
/// let hidden = Tensor::<3>::random([2, 5, 16], Distribution::Default, &device);
/// let head = Tensor::<2>::random([16, 10], Distribution::Default, &device);
/// let tokens = Tensor::<2, Int>::from_data([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], &device);
/// let loss = frozen_head_loss(hidden.clone(), head.clone(), tokens.clone());
/// let same = next_token_loss(head_logits(hidden, head), tokens);
/// assert!((loss - same).abs().into_scalar::<f32>() < 1e-4);
/// ```
///
/// # Shapes
///
/// - `hidden`: `[batch, seq, width]`, the output of the last norm
/// - `head`: `[width, vocab]`, which gets no gradient and may be in half precision, as its file has it
/// - `tokens`: `[batch, seq]`
/// - output: `[1]`; losses and sums are in f32, and products too, but where `hidden` is in bf16 and
///   [a CPU multiplies so](crate::kernels::transformer::multiplies_bf16)
pub fn frozen_head_loss(hidden: Tensor<3>, head: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<1> {
    let [batch, seq, width] = hidden.dims();
    let rows = batch * (seq - 1);
    let hidden = hidden.slice_dim(1, 0..seq - 1).reshape([rows, width]);
    loss_of_rows(
        for_products(hidden),
        head,
        tokens.slice_dim(1, 1..seq).reshape([rows]),
    )
}

/// [`answer_loss`](super::answer_loss) in the way of [`frozen_head_loss`]: there are logits for the answers only.
///
/// ```
/// use burn::tensor::{Device, Distribution, Int, Tensor};
/// use burn_eqat::lm::{answer_loss, frozen_head_answer_loss, head_logits};
///
/// let device = Device::flex();
/// let hidden = Tensor::<3>::random([2, 5, 16], Distribution::Default, &device);
/// let head = Tensor::<2>::random([16, 10], Distribution::Default, &device);
/// let tokens = Tensor::<2, Int>::from_data([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], &device);
/// // The last two tokens of the first text, and the last of the second.
/// let answers = Tensor::<1, Int>::from_data([3, 4, 9], &device);
/// let loss = frozen_head_answer_loss(hidden.clone(), head.clone(), tokens.clone(), answers.clone());
/// let same = answer_loss(head_logits(hidden, head), tokens, answers);
/// assert!((loss - same).abs().into_scalar::<f32>() < 1e-4);
/// ```
///
/// # Shapes
///
/// - `hidden`, `head` and `tokens`: as in [`frozen_head_loss`]
/// - `answers`: `[answers]`, as in [`TokenBatch::answers`](super::TokenBatch::answers)
/// - output: `[1]`; losses and sums are in f32, and products too, but where `hidden` is in bf16 and
///   [a CPU multiplies so](crate::kernels::transformer::multiplies_bf16)
pub fn frozen_head_answer_loss(
    hidden: Tensor<3>,
    head: Tensor<2>,
    tokens: Tensor<2, Int>,
    answers: Tensor<1, Int>,
) -> Tensor<1> {
    let targets = targets_of(tokens, answers.clone());
    let hidden = for_products(rows_before(hidden, answers));
    loss_of_rows(hidden, head, targets)
}

/// The mean loss of `targets [rows]` from `hidden [rows, width]`, with its gradient by `hidden`.
fn loss_of_rows(hidden: Tensor<2>, head: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let targets = targets.inner();
    let tracked = hidden.is_autodiff();
    let (loss, gradients) = in_chunks(hidden.clone().inner(), head.inner(), targets, tracked);
    if !tracked {
        return loss;
    }
    with_gradient(loss, hidden, gradients)
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
        let hidden = hidden.clone().slice_dim(0, range);
        let logits = logits(hidden.clone(), &head);
        let target = logits.clone().gather(1, targets.clone().unsqueeze_dim(1));
        let largest = logits.clone().max_dim(1);
        let weights = exp(logits - largest.clone());
        let sum = weights.clone().sum_dim(1);
        losses.push((sum.clone().log() + largest - target).sum());
        if with_gradients {
            let expected = times_rows(&weights, &head, &hidden) / sum;
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
    use crate::lm::{answer_loss, next_token_loss};
    use burn::tensor::{Device, Distribution};

    /// A loss from hidden states, the head and tokens.
    type Loss<'a> = &'a dyn Fn(Tensor<3>, Tensor<2>, Tensor<2, Int>) -> Tensor<1>;

    /// Checks that two losses, and their gradients by the hidden states, are the same.
    fn assert_same(shape: [usize; 4], whole: Loss<'_>, chunked: Loss<'_>) {
        let device = Device::flex();
        device.seed(5);
        let [batch, seq, width, vocab] = shape;
        let uniform = Distribution::Uniform(-1.0, 1.0);
        let hidden = Tensor::<3>::random([batch, seq, width], uniform, &device);
        let head = Tensor::<2>::random([width, vocab], uniform, &device);
        let ids = Distribution::Uniform(0.0, vocab as f64 - 1.0);
        let tokens = Tensor::<2>::random([batch, seq], ids, &device).int();

        let run = |loss: Loss<'_>| {
            let leaf = Tensor::from_inner(hidden.clone()).require_grad();
            let (head, tokens) = (
                Tensor::from_inner(head.clone()),
                Tensor::from_inner(tokens.clone()),
            );
            let loss = loss(leaf.clone(), head, tokens);
            let grads = loss.backward();
            (loss.into_scalar::<f64>(), leaf.grad(&grads).unwrap())
        };
        let ((expected, gradient), (actual, chunked_gradient)) = (run(whole), run(chunked));
        let close = |actual: f64| {
            let error = (actual - expected).abs();
            assert!(error < 1e-5 * expected.abs(), "{actual} {expected}");
        };
        close(actual);
        let plain = chunked(hidden, head, tokens);
        assert!(!plain.is_autodiff());
        close(plain.into_scalar());
        let size = |tensor: Tensor<3>| tensor.abs().max().into_scalar::<f64>();
        let difference = chunked_gradient - gradient.clone();
        assert!(size(difference) < 1e-5 * size(gradient));
    }

    /// More positions than one chunk has.
    const SHAPE: [usize; 4] = [2, 35, 8, 1 << 15];

    #[test]
    fn it_is_the_loss_of_all_logits_with_its_gradient() {
        assert_same(
            SHAPE,
            &|hidden, head, tokens| next_token_loss(hidden.matmul(head.unsqueeze()), tokens),
            &frozen_head_loss,
        );
    }

    #[test]
    fn answers_have_the_loss_of_their_logits_with_its_gradient() {
        // The second token of the first window and the last of both among them, in no order.
        let places = [
            69, 1, 34, 36, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53,
        ];
        let answers = |tokens: &Tensor<2, Int>| Tensor::from_data(places, &tokens.device());
        assert_same(
            SHAPE,
            &|hidden, head, tokens| {
                let answers = answers(&tokens);
                answer_loss(hidden.matmul(head.unsqueeze()), tokens, answers)
            },
            &|hidden, head, tokens| {
                let answers = answers(&tokens);
                frozen_head_answer_loss(hidden, head, tokens, answers)
            },
        );
    }

    #[test]
    fn all_answers_are_all_next_tokens() {
        let [batch, seq, ..] = SHAPE;
        let places: Vec<i32> = (0..(batch * seq) as i32)
            .filter(|place| place % seq as i32 != 0)
            .collect();
        assert_same(
            SHAPE,
            &|hidden, head, tokens| next_token_loss(hidden.matmul(head.unsqueeze()), tokens),
            &|hidden, head, tokens| {
                let answers = Tensor::from_data(places.as_slice(), &tokens.device());
                frozen_head_answer_loss(hidden, head, tokens, answers)
            },
        );
    }
}
