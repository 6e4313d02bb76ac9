//! Elementwise ops on tensors, and access to the numbers of contiguous tensors.

use super::super::cast;
use super::super::level::Level;
use super::super::parallel::{self, Shared};
use super::super::tensors;
use super::elementwise::{self, Elementwise, TASK};
use burn::tensor::{Bytes, DType, Shape, bf16};
use burn_flex::{FlexTensor, Layout};
use macerator::{Simd, WithSimd};

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

/// Numbers in bf16 that are in f32 at a time, in a core's first cache.
const CHUNK: usize = 1024;

/// Applies an op to tensors of one shape, all in f32 or all in bf16.
pub(super) fn zip_any<const I: usize, const O: usize>(
    op: impl Elementwise<I, O>,
    arguments: [FlexTensor; I],
) -> [FlexTensor; O] {
    if arguments[0].dtype() != DType::BF16 {
        return zip(op, arguments);
    }
    let arguments = arguments.map(contiguous);
    let shape: Shape = arguments[0].layout().shape().clone();
    let len = shape.num_elements();
    let from =
        (arguments.each_ref()).map(|x| x.as_slice::<bf16>().expect("it is contiguous, in bf16"));
    let mut results = [(); O].map(|_| vec![bf16::ZERO; len]);
    let parts = len.div_ceil(TASK);
    let to = results.each_mut().map(|y| Shared::new(y));
    parallel::each(parts, parallel::threads(len), |at| {
        let part = parallel::part(len, CHUNK, parts, at);
        let from = from.map(|x| &x[part.clone()]);
        // SAFETY: each task has its own part of the results.
        let to = to.map(|y| unsafe { y.part(part.clone()) });
        Level::current().run(Chunks { op, from, to });
    });
    results.map(|y| {
        let layout = Layout::contiguous(shape.clone());
        FlexTensor::new(Bytes::from_elems(y), layout, DType::BF16)
    })
}

/// A pass over numbers in bf16, some of which are in f32 at a time.
struct Chunks<'a, Op, const I: usize, const O: usize> {
    op: Op,
    from: [&'a [bf16]; I],
    to: [&'a mut [bf16]; O],
}

impl<Op: Elementwise<I, O>, const I: usize, const O: usize> WithSimd for Chunks<'_, Op, I, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self) {
        let (mut wide, mut results) = ([[0f32; CHUNK]; I], [[0f32; CHUNK]; O]);
        let len = self.to[0].len();
        for start in (0..len).step_by(CHUNK) {
            let some = start..(start + CHUNK).min(len);
            for (wide, from) in wide.iter_mut().zip(&self.from) {
                for (wide, from) in wide.iter_mut().zip(&from[some.clone()]) {
                    *wide = cast::wide(*from);
                }
            }
            let from = wide.each_ref().map(|x| x.as_ptr());
            let to = results.each_mut().map(|y| y.as_mut_ptr());
            // SAFETY: a chunk has as many numbers.
            unsafe { elementwise::each::<S, I, O>(self.op, from, to, some.len()) };
            for (to, result) in self.to.iter_mut().zip(&results) {
                for (to, result) in to[some.clone()].iter_mut().zip(result) {
                    *to = cast::rounded(*result);
                }
            }
        }
    }
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
