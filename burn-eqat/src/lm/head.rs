//! The product with an output layer, whose weight may be in another type than the product.

use crate::compute_type::{in_type, widen};
use crate::kernels::transformer::{matmul_wide, multiplies_bf16};
use burn::tensor::{DType, Tensor};
use std::ops::Range;

/// Numbers of a weight in half precision that are in f32 at a time.
const NUMBERS: usize = 1 << 23;

/// Logits from the input of an output layer, in f32 unless an operand is in f64.
///
/// The weight may stay in the half precision of its file: some columns of it are in f32 at a time.
///
/// ```
/// use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
/// use burn_eqat::lm::head_logits;
///
/// let device = Device::flex();
/// let hidden = Tensor::<3>::random([2, 5, 16], Distribution::Default, &device);
/// let head = Tensor::<2>::random([16, 10], Distribution::Default, &device);
/// // A weight in half precision stays as it is.
/// let logits = head_logits(hidden, head.cast(FloatDType::BF16));
/// assert_eq!((logits.dims(), logits.dtype()), ([2, 5, 10], DType::F32));
/// ```
///
/// # Shapes
///
/// - `hidden`: `[batch, seq, width]`, the output of the last norm
/// - `head`: `[width, vocab]`
/// - output: `[batch, seq, vocab]`
pub fn head_logits(hidden: Tensor<3>, head: Tensor<2>) -> Tensor<3> {
    let ([batch, seq, width], [_, vocab]) = (hidden.dims(), head.dims());
    let logits = logits(hidden.reshape([batch * seq, width]), &head);
    logits.reshape([batch, seq, vocab])
}

/// As [`head_logits`], from `[rows, width]` to `[rows, vocab]`. Hidden states that are [in bf16](for_products) are multiplied so.
pub(super) fn logits(hidden: Tensor<2>, head: &Tensor<2>) -> Tensor<2> {
    if is_fast(&hidden) && !hidden.is_autodiff() {
        return product(hidden, head.clone());
    }
    let hidden = beside(widen(hidden), head);
    let parts =
        tiles(head).map(|columns| hidden.clone().matmul(tile(head, columns, hidden.dtype())));
    let mut parts: Vec<_> = parts.collect();
    match parts.len() {
        1 => parts.remove(0),
        _ => Tensor::cat(parts, 1),
    }
}

/// Hidden states as products with an output layer take them: as they are where bf16 is multiplied with sums in f32, else
/// in f32.
pub(super) fn for_products(hidden: Tensor<2>) -> Tensor<2> {
    if is_fast(&hidden) {
        hidden
    } else {
        widen(hidden)
    }
}

fn is_fast(hidden: &Tensor<2>) -> bool {
    hidden.dtype() == DType::BF16 && multiplies_bf16(&hidden.device())
}

/// A product in bf16 with sums in f32.
fn product(left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
    matmul_wide(left, right).expect("an output layer has the width of its input")
}

/// `weights [rows, vocab]` times the transposed weight of the layer, `[rows, width]`, in f32. In bf16 if `hidden`, what the layer was
/// multiplied by, [is](for_products).
pub(super) fn times_rows(weights: &Tensor<2>, head: &Tensor<2>, hidden: &Tensor<2>) -> Tensor<2> {
    if is_fast(hidden) {
        let weights = in_type(weights.clone(), DType::BF16);
        return product(weights, head.clone().transpose());
    }
    let parts = tiles(head).map(|columns| {
        let rows = tile(head, columns.clone(), weights.dtype()).transpose();
        let weights = weights.clone();
        match columns.len() == head.dims()[1] {
            true => weights.matmul(rows),
            false => weights.slice_dim(1, columns).matmul(rows),
        }
    });
    parts
        .reduce(|sum, part| sum + part)
        .expect("there is a tile")
}

/// Whether a weight is cast for its products.
pub(super) fn is_cast(head: &Tensor<2>) -> bool {
    matches!(head.dtype(), DType::F16 | DType::BF16)
}

/// A tensor in f64 if the weight is.
fn beside(hidden: Tensor<2>, head: &Tensor<2>) -> Tensor<2> {
    match head.dtype() {
        DType::F64 => in_type(hidden, DType::F64),
        _ => hidden,
    }
}

/// A loss whose gradient by `hidden [rows, width]` is worked out: the mean over the rows of what `gradients` has, in chunks of them.
pub(super) fn with_gradient(
    loss: Tensor<1>,
    hidden: Tensor<2>,
    gradients: Vec<Tensor<2>>,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    // A product whose gradient by `hidden` is that one, moved to the value of the loss.
    let gradient = Tensor::from_inner(Tensor::cat(gradients, 0) / rows as f64);
    let slope = (widen(hidden) * gradient).sum();
    slope.clone() + (Tensor::from_inner(loss) - slope.detach())
}

/// The columns in tiles; a single one where nothing is cast.
fn tiles(head: &Tensor<2>) -> impl Iterator<Item = Range<usize>> {
    let [width, vocab] = head.dims();
    let columns = if is_cast(head) {
        (NUMBERS / width.max(1)).clamp(1, vocab.max(1))
    } else {
        vocab.max(1)
    };
    let starts = (0..vocab.max(1)).step_by(columns);
    starts.map(move |first| first..(first + columns).min(vocab))
}

/// Some columns of the weight in a type.
pub(super) fn tile(head: &Tensor<2>, columns: Range<usize>, dtype: DType) -> Tensor<2> {
    let [_, vocab] = head.dims();
    let part = match columns.len() == vocab {
        true => head.clone(),
        false => head.clone().slice_dim(1, columns),
    };
    in_type(part, dtype)
}
