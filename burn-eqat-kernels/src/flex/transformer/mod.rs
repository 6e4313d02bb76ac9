//! The ops of [`crate::transformer`] on Flex, in f32; products in bf16 where the CPU has them.

mod arguments;
mod attention;
#[cfg(target_arch = "x86_64")]
mod dense;
mod elementwise;
mod gradients;
mod heads;
mod norm;
mod rotary;
mod tensor_ops;
#[cfg(test)]
mod tests;
mod vectors;

pub(crate) use arguments::{Argument, Arguments, is_flex};
#[cfg(target_arch = "x86_64")]
pub(crate) use dense::{linear, matmul, multiplies_bf16};

use super::cast::cast;
use super::level::Level;
use super::matrix::Products;
use super::parallel::Shared;
use super::tensors;
use arguments::Differentiated;
use attention::CausalAttention;
use burn::backend::Flex;
use burn::backend::autodiff::{
    checkpoint::strategy::NoCheckpointing,
    ops::{Backward, OpsKind},
};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use elementwise::{Exp, Swiglu};
use gradients::{Attended, Normed, Rotated};
use heads::{Heads, readable};
use norm::Norm;
use std::sync::Arc;
use tensor_ops::{contiguous, overwrite, values, zip_any};

impl<const N: usize> Arguments<N> {
    /// Runs an op that returns its result and the state for its gradients.
    fn run<const D: usize, G: Backward<Flex, N>>(
        self,
        gradient: G,
        body: impl FnOnce([FlexTensor; N]) -> (FlexTensor, G::State),
    ) -> Tensor<D> {
        match self {
            Arguments::Plain(arguments) => Tensor::from_primitive::<Flex>(body(arguments).0),
            Arguments::Differentiated(arguments) => {
                let nodes = arguments.each_ref().map(|argument| argument.node());
                let prepared = gradient.prepare::<NoCheckpointing>(nodes);
                let (y, state) = body(arguments.map(|argument| argument.into_primitive()));
                let y = match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish(state, y),
                    OpsKind::UnTracked(prepared) => prepared.finish(y),
                };
                Tensor::from_primitive::<Differentiated>(y)
            }
        }
    }
}

/// A tensor in another type, and its gradient in its own.
pub(crate) fn in_type<const D: usize>(x: Arguments<1>, dtype: DType) -> Tensor<D> {
    x.run(gradients::CastGradient, |[x]| {
        let own = x.dtype();
        (cast(x, dtype), own)
    })
}

pub(crate) fn exp<const D: usize>(x: Arguments<1>) -> Tensor<D> {
    x.run(gradients::ExpGradient, |[x]| {
        let y = overwrite(Exp, x);
        (y.clone(), y)
    })
}

/// Of operands in f32 or in bf16.
pub(crate) fn swiglu<const D: usize>(gate_up: Arguments<2>) -> Tensor<D> {
    gate_up.run(gradients::SwigluGradient, |gate_up| {
        let [y] = zip_any(Swiglu, gate_up.clone());
        (y, gate_up)
    })
}

pub(crate) fn rms_norm<const D: usize>(x_gamma: Arguments<2>, epsilon: f32) -> Tensor<D> {
    x_gamma.run(gradients::RmsNormGradient, |x_gamma| {
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

/// Expects tables with one row per position.
pub(crate) fn rotary(x: Arguments<1>, [cos, sin]: [Argument; 2]) -> Tensor<4> {
    x.run(gradients::RotaryGradient, |[x]| {
        let [cos, sin] = [cos, sin].map(|table| contiguous(table.values()));
        let rotated = Rotated { cos, sin };
        (rotated.run(x, false), rotated)
    })
}

/// Attention of operands in f32, which were of type `rounded`.
pub(crate) fn causal_attention(
    q_k_v: Arguments<3>,
    window: Option<usize>,
    rounded: DType,
) -> Tensor<4> {
    q_k_v.run(gradients::AttentionGradient, |q_k_v| {
        let q_k_v = q_k_v.map(readable);
        let [q, k, v] = q_k_v.each_ref().map(Heads::reading);
        let mut out = heads::zeros([q.batch, q.heads, q.positions, v.width]);
        let mut logs = vec![0.0; q.batch * q.heads * q.positions];
        let products = Products::of(Level::current(), rounded);
        let attention = CausalAttention {
            q,
            k,
            v,
            window,
            products,
        };
        let (to, logs_to) = (Heads::writing(&mut out), Shared::new(&mut logs));
        attention.forward(Level::current(), to, logs_to);
        let attended = Attended {
            q_k_v,
            out: out.clone(),
            logs: Arc::new(logs),
            window,
            products,
        };
        (out, attended)
    })
}
