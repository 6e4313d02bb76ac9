use super::TokenBatch;
use super::head::{for_products, is_cast, logits, times_rows, with_gradient};
use super::loss::{rows_before, targets_of};
use crate::compute_type::in_type;
use crate::kernels::transformer::exp;
use crate::train::DistillationConfig;
use burn::tensor::{Int, Tensor};
use core::ops::Range;

/// The number of logits of each model in memory at a time.
const LOGITS: usize = 1 << 19;

/// The least number of positions at a time where the weight is cast for them.
const CAST_ROWS: usize = 256;

/// [`distillation_loss`](crate::train::distillation_loss) of the positions that predict ([`TokenBatch`]), from the inputs of output
/// layers that are not trained, in the way of
/// [`frozen_head_loss`](super::frozen_head_loss): no logits are kept, and those of all positions are never in memory at once.
///
/// # Shapes
///
/// - `hidden`: `[batch, seq, width]`, the output of the model's last norm
/// - `head`: `[width, vocab]`, which gets no gradient and may be in half precision, as its file has it
/// - `teacher`: the same two of the original, where no gradients are recorded
/// - output: `[1]`; losses and sums are in f32, and products too, but where `hidden` is in bf16 and
///   [a CPU multiplies so](crate::kernels::transformer::multiplies_bf16)
pub fn frozen_head_distillation(
    hidden: Tensor<3>,
    head: Tensor<2>,
    teacher: (Tensor<3>, Tensor<2>),
    batch: TokenBatch,
    config: DistillationConfig,
) -> Tensor<1> {
    let (hidden, targets) = rows(hidden, &batch);
    let (teacher_hidden, _) = rows(teacher.0, &batch.inner());
    let tracked = hidden.is_autodiff();
    let chunks = Chunks {
        hidden: hidden.clone().inner(),
        head: head.inner(),
        teacher: teacher_hidden,
        teacher_head: teacher.1,
        targets: targets.inner(),
        config,
    };
    let (loss, gradients) = chunks.all(tracked);
    if !tracked {
        return loss;
    }
    with_gradient(loss, hidden, gradients)
}

/// The rows of those positions that predict, as products take them, and what they are to predict.
fn rows(values: Tensor<3>, batch: &TokenBatch) -> (Tensor<2>, Tensor<1, Int>) {
    let [windows, seq, width] = values.dims();
    let tokens = batch.tokens.clone();
    match batch.answers.clone() {
        Some(answers) => (
            for_products(rows_before(values, answers.clone())),
            targets_of(tokens, answers),
        ),
        None => {
            let count = windows * (seq - 1);
            let values = values.slice_dim(1, 0..seq - 1).reshape([count, width]);
            (
                for_products(values),
                tokens.slice_dim(1, 1..seq).reshape([count]),
            )
        }
    }
}

/// Rows of both models, where no gradients are recorded.
struct Chunks {
    hidden: Tensor<2>,
    head: Tensor<2>,
    teacher: Tensor<2>,
    teacher_head: Tensor<2>,
    targets: Tensor<1, Int>,
    config: DistillationConfig,
}

impl Chunks {
    /// The mean loss and, on request, as often as there are rows, its gradient by each chunk of `hidden`.
    fn all(&self, with_gradients: bool) -> (Tensor<1>, Vec<Tensor<2>>) {
        let ([rows, _], [_, vocab]) = (self.hidden.dims(), self.head.dims());
        let least = if is_cast(&self.head) { CAST_ROWS } else { 16 };
        let chunk = (LOGITS / vocab).max(least).min(rows.max(16));
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for first in (0..rows).step_by(chunk) {
            let (loss, gradient) = self.one(first..(first + chunk).min(rows), with_gradients);
            losses.push(loss);
            gradients.extend(gradient);
        }
        (Tensor::cat(losses, 0).sum() / rows as f64, gradients)
    }

    fn one(&self, rows: Range<usize>, with_gradient: bool) -> (Tensor<1>, Option<Tensor<2>>) {
        let DistillationConfig {
            temperature: t,
            weight: w,
        } = self.config;
        let part = |of: &Tensor<2>| of.clone().slice_dim(0, rows.clone());
        let hidden = part(&self.hidden);
        let found = logits(hidden.clone(), &self.head);
        let expected = logits(part(&self.teacher), &self.teacher_head);
        let expected = log_weights(expected / t);
        let softened = log_weights(found.clone() / t);
        let likely = exp(expected.clone());
        let divergence = (likely.clone() * (expected - softened.clone())).sum();
        let mut loss = divergence * (w * t * t);
        // By the logits.
        let mut slope = with_gradient.then(|| (exp(softened) - likely) * (w * t));
        if w < 1.0 {
            let targets = self.targets.clone().slice_dim(0, rows.clone());
            let plain = log_weights(found);
            let next = plain.clone().gather(1, targets.clone().unsqueeze_dim(1));
            loss = loss - next.sum() * (1.0 - w);
            let own = self.head.clone().transpose().select(0, targets);
            return (
                loss,
                slope.take().map(|slope| {
                    let by_logits = slope + exp(plain) * (1.0 - w);
                    let by_hidden = times_rows(&by_logits, &self.head, &hidden);
                    let dtype = by_hidden.dtype();
                    by_hidden - in_type(own, dtype) * (1.0 - w)
                }),
            );
        }
        (
            loss,
            slope.map(|slope| times_rows(&slope, &self.head, &hidden)),
        )
    }
}

/// The logarithm of the softmax of each row. (Burn's own computes exponentials one at a time on a CPU.)
fn log_weights(logits: Tensor<2>) -> Tensor<2> {
    let largest = logits.clone().max_dim(1);
    let less = logits - largest;
    let sum = exp(less.clone()).sum_dim(1);
    less - sum.log()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::distillation_loss;
    use burn::tensor::{Device, Distribution};

    /// Both ways on random models, with and without gradients.
    fn assert_same(config: DistillationConfig, answers: Option<&[i32]>) {
        let device = Device::flex();
        device.seed(9);
        // More positions than a chunk has.
        let [batch, seq, width, vocab] = [2, 19, 8, 1 << 15];
        let uniform = Distribution::Uniform(-1.0, 1.0);
        let hidden = || Tensor::<3>::random([batch, seq, width], uniform, &device);
        let head = || Tensor::<2>::random([width, vocab], uniform, &device);
        let ((hidden, head), teacher) = ((hidden(), head()), (hidden(), head()));
        let ids = Distribution::Uniform(0.0, vocab as f64 - 1.0);
        let plain = TokenBatch {
            tokens: Tensor::<2>::random([batch, seq], ids, &device).int(),
            answers: answers.map(|places| Tensor::from_data(places, &device)),
        };
        let recorded = TokenBatch {
            tokens: Tensor::from_inner(plain.tokens.clone()),
            answers: plain.answers.clone().map(Tensor::from_inner),
        };
        let teacher_logits = teacher.0.clone().matmul(teacher.1.clone().unsqueeze());

        let leaf = Tensor::from_inner(hidden.clone()).require_grad();
        let whole = |logits: Tensor<3>, batch: &TokenBatch| {
            let (logits, targets) = rows(logits, batch);
            let (teacher, _) = rows(teacher_logits.clone(), &plain);
            distillation_loss(logits, teacher, targets, config)
        };
        let logits = leaf
            .clone()
            .matmul(Tensor::from_inner(head.clone()).unsqueeze());
        let loss = whole(logits, &recorded);
        let expected = leaf.grad(&loss.backward()).unwrap();
        let value = loss.into_scalar::<f64>();

        let leaf = Tensor::from_inner(hidden.clone()).require_grad();
        let own = Tensor::from_inner(head.clone());
        let loss = frozen_head_distillation(leaf.clone(), own, teacher.clone(), recorded, config);
        let actual = leaf.grad(&loss.backward()).unwrap();
        let close = |found: f64| {
            assert!(
                (found - value).abs() < 1e-5 * value.abs(),
                "{found} {value}"
            );
        };
        close(loss.into_scalar());
        let size = |tensor: Tensor<3>| tensor.abs().max().into_scalar::<f64>();
        assert!(size(actual - expected.clone()) < 1e-5 * size(expected));

        let logits = hidden.clone().matmul(head.clone().unsqueeze());
        close(whole(logits, &plain).into_scalar());
        let loss = frozen_head_distillation(hidden, head, teacher, plain, config);
        assert!(!loss.is_autodiff());
        close(loss.into_scalar());
    }

    #[test]
    fn chunks_have_the_loss_of_all_logits_with_its_gradient() {
        for (temperature, weight) in [(1.0, 1.0), (2.0, 1.0), (0.7, 0.4), (1.0, 0.0)] {
            let config = DistillationConfig {
                temperature,
                weight,
            };
            assert_same(config, None);
            assert_same(config, Some(&[37, 1, 18, 20, 5, 6, 7, 8]));
        }
    }
}
