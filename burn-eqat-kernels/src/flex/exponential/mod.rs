//! The ops of [`crate::exponential`] on Flex, in f32.

mod gradients;
mod kernel;
#[cfg(test)]
mod tests;

use super::level::Level;
use super::parallel::Shared;
use burn::backend::Flex;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::strategy::NoCheckpointing,
    ops::{Backward, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::FlexTensor;
use gradients::{ProductBackward, SwigluBackward};
use kernel::{Elementwise, Scores};

/// Flex with gradients, as a device has them unless it is told to work things out twice.
type Differentiated = Autodiff<Flex, NoCheckpointing>;

/// Operands of an op: plain, or with gradients.
pub(crate) enum Operands<const N: usize> {
    Plain([FlexTensor; N]),
    Differentiated([FloatTensor<Differentiated>; N]),
}

impl<const N: usize> Operands<N> {
    /// None where they are of another backend, or type.
    pub fn of<const D: usize>(tensors: [&Tensor<D>; N]) -> Option<Self> {
        if tensors.iter().any(|tensor| tensor.dtype() != DType::F32) {
            return None;
        }
        let plain = |x: &Tensor<D>| x.clone().try_into_primitive::<Flex>().ok();
        if let Some(plain) = all(tensors.map(plain)) {
            return Some(Operands::Plain(plain));
        }
        let tracked = |x: &Tensor<D>| x.clone().try_into_primitive::<Differentiated>().ok();
        all(tensors.map(tracked)).map(Operands::Differentiated)
    }
}

fn all<T, const N: usize>(options: [Option<T>; N]) -> Option<[T; N]> {
    match options.iter().all(Option::is_some) {
        true => Some(options.map(|option| option.expect("all are there"))),
        false => None,
    }
}

impl Operands<1> {
    pub fn exp<const D: usize>(self) -> Tensor<D> {
        self.unary(|x| map(kernel::Exp, x))
    }

    pub fn causal_weights<const D: usize>(
        self,
        rows: usize,
        keys: usize,
        window: Option<usize>,
    ) -> Tensor<D> {
        self.unary(|scores| {
            overwrite(scores, |from, to, len| {
                let scores = Scores {
                    from,
                    to,
                    rows,
                    keys,
                    window,
                };
                let matrices = len / (rows * keys).max(1);
                // SAFETY: the tensor has so many scores, and the result is written here only.
                unsafe { scores.weigh(Level::current(), matrices) }
            })
        })
    }

    /// Runs an op whose gradient is its result times the result's gradient.
    fn unary<const D: usize>(self, body: impl FnOnce(FlexTensor) -> FlexTensor) -> Tensor<D> {
        match self {
            Operands::Plain([x]) => Tensor::from_primitive::<Flex>(body(x)),
            Operands::Differentiated([x]) => {
                let prepared = ProductBackward.prepare::<NoCheckpointing>([x.node()]);
                let y = body(x.into_primitive());
                let y = match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(y.clone(), y),
                    OpsKind::UnTracked(prepared) => prepared.finish(y),
                };
                Tensor::from_primitive::<Differentiated>(y)
            }
        }
    }
}

impl Operands<2> {
    /// Of a gate and values, of one shape.
    pub fn swiglu<const D: usize>(self) -> Tensor<D> {
        match self {
            Operands::Plain(operands) => {
                let [y] = zip(kernel::Swiglu, operands);
                Tensor::from_primitive::<Flex>(y)
            }
            Operands::Differentiated([gate, up]) => {
                let nodes = [gate.node(), up.node()];
                let prepared = SwigluBackward.prepare::<NoCheckpointing>(nodes);
                let operands = [gate.into_primitive(), up.into_primitive()];
                let [y] = zip(kernel::Swiglu, operands.clone());
                let y = match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(operands, y),
                    OpsKind::UnTracked(prepared) => prepared.finish(y),
                };
                Tensor::from_primitive::<Differentiated>(y)
            }
        }
    }
}

/// Applies an op to a tensor.
fn map(op: impl Elementwise<1, 1>, x: FlexTensor) -> FlexTensor {
    overwrite(x, |from, to, len| {
        // SAFETY: both have so many numbers, and the result is written here only.
        unsafe { kernel::run(Level::current(), op, [from], [to], len) }
    })
}

/// Gives `body` the numbers of a tensor, where its results go (in their place, where nobody else has them), and
/// how many there are.
fn overwrite(x: FlexTensor, body: impl FnOnce(Shared, Shared, usize)) -> FlexTensor {
    let mut x = contiguous(x);
    let len = x.layout().num_elements();
    let whole = x.layout().start_offset() == 0 && x.storage::<f32>().len() == len;
    if whole && let Some(values) = x.try_storage_mut::<f32>() {
        let values = Shared::new(values);
        body(values, values, len);
        return x;
    }
    let mut y = FlexTensor::empty(x.layout().shape().clone(), DType::F32);
    body(shared(&x), Shared::new(y.storage_mut()), len);
    y
}

/// Applies an op to tensors of one shape.
fn zip<const I: usize, const O: usize>(
    op: impl Elementwise<I, O>,
    operands: [FlexTensor; I],
) -> [FlexTensor; O] {
    let operands = operands.map(contiguous);
    let shape: Shape = operands[0].layout().shape().clone();
    let mut results = [(); O].map(|_| FlexTensor::empty(shape.clone(), DType::F32));
    let from = operands.each_ref().map(shared);
    let to = results.each_mut().map(|y| Shared::new(y.storage_mut()));
    // SAFETY: all are of one shape, and results are written here only.
    unsafe { kernel::run(Level::current(), op, from, to, shape.num_elements()) };
    results
}

fn contiguous(x: FlexTensor) -> FlexTensor {
    match x.is_contiguous() {
        true => x,
        false => x.to_contiguous(),
    }
}

/// The numbers of a contiguous tensor, to be read.
fn shared(x: &FlexTensor) -> Shared {
    Shared::reading(x.as_slice().expect("it was made contiguous, in f32"))
}
