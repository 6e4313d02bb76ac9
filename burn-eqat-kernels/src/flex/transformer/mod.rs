//! The ops of [`crate::transformer`] on Flex, in f32.

mod attention;
mod elementwise;
mod gradients;
mod heads;
mod norm;
mod operands;
mod rotary;
#[cfg(test)]
mod tests;
mod vectors;

pub(crate) use operands::{Operand, Operands};

use super::level::Level;
use super::parallel::Shared;
use super::tensors;
use attention::Attention;
use burn::backend::Flex;
use burn::backend::autodiff::{
    checkpoint::strategy::NoCheckpointing,
    ops::{Backward, OpsKind},
};
use burn::tensor::{Shape, Tensor};
use burn_flex::FlexTensor;
use elementwise::{Elementwise, Exp, Swiglu};
use gradients::{Attended, Normed, Rotated};
use heads::{Heads, readable};
use norm::Norm;
use operands::Differentiated;
use rotary::Rotation;
use std::sync::Arc;

impl<const N: usize> Operands<N> {
    /// Runs an op that gives its result with what its gradients need.
    fn run<const D: usize, G: Backward<Flex, N>>(
        self,
        gradient: G,
        body: impl FnOnce([FlexTensor; N]) -> (FlexTensor, G::State),
    ) -> Tensor<D> {
        match self {
            Operands::Plain(operands) => Tensor::from_primitive::<Flex>(body(operands).0),
            Operands::Differentiated(operands) => {
                let nodes = operands.each_ref().map(|operand| operand.node());
                let prepared = gradient.prepare::<NoCheckpointing>(nodes);
                let (y, state) = body(operands.map(|operand| operand.into_primitive()));
                let y = match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(state, y),
                    OpsKind::UnTracked(prepared) => prepared.finish(y),
                };
                Tensor::from_primitive::<Differentiated>(y)
            }
        }
    }
}

pub(crate) fn exp<const D: usize>(x: Operands<1>) -> Tensor<D> {
    x.run(gradients::Exp, |[x]| {
        let y = overwrite(Exp, x);
        (y.clone(), y)
    })
}

pub(crate) fn swiglu<const D: usize>(gate_up: Operands<2>) -> Tensor<D> {
    gate_up.run(gradients::Swiglu, |gate_up| {
        let [y] = zip(Swiglu, gate_up.clone());
        (y, gate_up)
    })
}

pub(crate) fn rms_norm<const D: usize>(x_gamma: Operands<2>, epsilon: f32) -> Tensor<D> {
    x_gamma.run(gradients::RmsNorm, |x_gamma| {
        let [x, gamma] = x_gamma.map(contiguous);
        let mut y = tensors::zeros(x.layout().shape().clone());
        let norm = Norm {
            x: values(&x),
            gamma: values(&gamma),
            epsilon,
        };
        norm.forward(Level::current(), y.storage_mut());
        (y, Normed { x, gamma, epsilon })
    })
}

/// With tables of as many rows as there are positions.
pub(crate) fn rotary(x: Operands<1>, [cos, sin]: [Operand; 2]) -> Tensor<4> {
    x.run(gradients::Rotary, |[x]| {
        let [cos, sin] = [cos, sin].map(|table| contiguous(table.values()));
        let rotated = Rotated { cos, sin };
        (rotated.run(x, false), rotated)
    })
}

impl Rotated {
    fn run(&self, x: FlexTensor, back: bool) -> FlexTensor {
        let x = readable(x);
        let from = Heads::reading(&x);
        let mut y = heads::zeros([from.batch, from.heads, from.positions, from.width]);
        let rotation = Rotation {
            cos: values(&self.cos),
            sin: values(&self.sin),
            back,
        };
        rotation.run(Level::current(), from, Heads::writing(&mut y));
        y
    }
}

pub(crate) fn causal_attention(q_k_v: Operands<3>, window: Option<usize>) -> Tensor<4> {
    q_k_v.run(gradients::Attention, |q_k_v| {
        let q_k_v = q_k_v.map(readable);
        let [q, k, v] = q_k_v.each_ref().map(Heads::reading);
        let mut out = heads::zeros([q.batch, q.heads, q.positions, v.width]);
        let mut logs = vec![0.0; q.batch * q.heads * q.positions];
        let attention = Attention { q, k, v, window };
        let (to, logs_to) = (Heads::writing(&mut out), Shared::new(&mut logs));
        attention.forward(Level::current(), to, logs_to);
        let attended = Attended {
            q_k_v,
            out: out.clone(),
            logs: Arc::new(logs),
            window,
        };
        (out, attended)
    })
}

/// Applies an op, in place where nobody else has the tensor.
fn overwrite(op: impl Elementwise<1, 1>, x: FlexTensor) -> FlexTensor {
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
fn zip<const I: usize, const O: usize>(
    op: impl Elementwise<I, O>,
    operands: [FlexTensor; I],
) -> [FlexTensor; O] {
    let operands = operands.map(contiguous);
    let shape: Shape = operands[0].layout().shape().clone();
    let mut results = [(); O].map(|_| tensors::zeros(shape.clone()));
    let from = operands.each_ref().map(|x| Shared::reading(values(x)));
    let to = results.each_mut().map(|y| Shared::new(y.storage_mut()));
    // SAFETY: all are of one shape, and results are written here only.
    unsafe { elementwise::run(Level::current(), op, from, to, shape.num_elements()) };
    results
}

fn contiguous(x: FlexTensor) -> FlexTensor {
    match x.is_contiguous() {
        true => x,
        false => x.to_contiguous(),
    }
}

/// The numbers of a contiguous tensor.
fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("it was made contiguous, in f32")
}
