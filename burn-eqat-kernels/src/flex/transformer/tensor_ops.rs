//! Elementwise ops on tensors, and access to the numbers of contiguous tensors.

use super::super::level::Level;
use super::super::parallel::Shared;
use super::super::tensors;
use super::elementwise::{self, Elementwise};
use burn::tensor::Shape;
use burn_flex::FlexTensor;

/// Applies an op, in place if nobody else has the tensor.
pub(super) fn overwrite(op: impl Elementwise<1, 1>, x: FlexTensor) -> FlexTensor {
    let mut x = contiguous(x);
    let len = x.layout().num_elements();
    let whole = x.layout().start_offset() == 0 && x.storage::<f32>().len() == len;
    if whole && let Some(values) = x.try_storage_mut::<f32>() {
        let values = Shared::new(values);
        // SAFETY: there are so many numbers, and they are used here only.
        unsafe { elementwise::run(Level::current(), op, [values], [values], len) };
        return x;
    }
    let [y] = zip(op, [x]);
    y
}

/// Applies an op to tensors of one shape.
pub(super) fn zip<const I: usize, const O: usize>(
    op: impl Elementwise<I, O>,
    arguments: [FlexTensor; I],
) -> [FlexTensor; O] {
    let arguments = arguments.map(contiguous);
    let shape: Shape = arguments[0].layout().shape().clone();
    let mut results = [(); O].map(|_| tensors::zeros(shape.clone()));
    let from = arguments.each_ref().map(|x| Shared::reading(values(x)));
    let to = results.each_mut().map(|y| Shared::new(y.storage_mut()));
    // SAFETY: all are of one shape, and results are written here only.
    unsafe { elementwise::run(Level::current(), op, from, to, shape.num_elements()) };
    results
}

pub(super) fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() {
        x
    } else {
        x.to_contiguous()
    }
}

/// The numbers of a contiguous tensor.
pub(super) fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("it was made contiguous, in f32")
}
