//! Backward passes of the ops.

use super::super::cast::cast;
use super::super::level::Level;
use super::super::matrix::Products;
use super::super::tensors;
use super::attention::{self, CausalAttention};
use super::elementwise::SwigluBackward;
use super::heads::{self, Heads, readable};
use super::norm::Norm;
use super::rotary::Rotation;
use super::tensor_ops::{contiguous, values, zip_any};
use burn::backend::Flex;
use burn::backend::autodiff::{
    checkpoint::base::Checkpointer,
    grads::Gradients,
    ops::{Backward, Ops},
};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use std::sync::Arc;

/// Backward of a cast, which keeps the type before it.
#[derive(Debug)]
pub(super) struct CastGradient;

/// Backward of `e^x`, which keeps its result.
#[derive(Debug)]
pub(super) struct ExpGradient;

/// Backward of `silu(gate) * up`, which keeps both.
#[derive(Debug)]
pub(super) struct SwigluGradient;

/// Backward of a norm.
#[derive(Debug)]
pub(super) struct RmsNormGradient;

/// Backward of a rotation: the inverse rotation.
#[derive(Debug)]
pub(super) struct RotaryGradient;

/// Backward of attention.
#[derive(Debug)]
pub(super) struct AttentionGradient;

/// The state of a norm: its arguments.
#[derive(Clone, Debug)]
pub(super) struct Normed {
    pub x: FlexTensor,
    pub gamma: FlexTensor,
    pub epsilon: f32,
}

/// The state of a rotation: its tables.
#[derive(Clone, Debug)]
pub(super) struct Rotated {
    pub cos: FlexTensor,
    pub sin: FlexTensor,
}

impl Rotated {
    /// Rotates `x`, or rotates it `back`.
    pub fn run(&self, x: FlexTensor, back: bool) -> FlexTensor {
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

/// The state of attention.
#[derive(Clone, Debug)]
pub(super) struct Attended {
    pub q_k_v: [FlexTensor; 3],
    pub out: FlexTensor,
    pub logs: Arc<Vec<f32>>,
    pub window: Option<usize>,
    pub products: Products,
}

/// Registers gradients of the tracked arguments.
macro_rules! backward {
    ($op:ty, $count:literal, $state:ty, |$kept:ident, $grad:ident| $body:expr) => {
        impl Backward<Flex, $count> for $op {
            type State = $state;

            fn backward(
                self,
                ops: Ops<Self::State, $count>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let $grad = grads.consume::<Flex>(&ops.node);
                let $kept = ops.state;
                let gradients: [FlexTensor; $count] = $body;
                for (node, gradient) in ops.parents.into_iter().zip(gradients) {
                    if let Some(node) = node {
                        grads.register::<Flex>(node.id, gradient);
                    }
                }
            }
        }
    };
}

backward!(CastGradient, 1, DType, |own, grad| [cast(grad, own)]);

backward!(ExpGradient, 1, FlexTensor, |y, grad| [Flex::float_mul(
    grad, y
)]);

backward!(SwigluGradient, 2, [FlexTensor; 2], |kept, grad| {
    let [gate, up] = kept;
    zip_any(SwigluBackward, [gate, up, grad])
});

backward!(RmsNormGradient, 2, Normed, |kept, grad| {
    let Normed { x, gamma, epsilon } = &kept;
    let grad = contiguous(grad);
    let [mut dx, mut dgamma] = [x, gamma].map(|of| tensors::zeros(of.layout().shape().clone()));
    let norm = Norm {
        x: values(x),
        gamma: values(gamma),
        epsilon: *epsilon,
    };
    let to = (dx.storage_mut(), dgamma.storage_mut());
    norm.backward(Level::current(), values(&grad), to.0, to.1);
    [dx, dgamma]
});

backward!(RotaryGradient, 1, Rotated, |kept, grad| [
    kept.run(grad, true)
]);

backward!(AttentionGradient, 3, Attended, |kept, grad| {
    let grad = readable(grad);
    let [q, k, v] = kept.q_k_v.each_ref().map(Heads::reading);
    let mut gradients =
        [q, k, v].map(|of| heads::zeros([of.batch, of.heads, of.positions, of.width]));
    let [to_q, to_k, to_v] = gradients.each_mut().map(Heads::writing);
    let attention = CausalAttention {
        q,
        k,
        v,
        window: kept.window,
        products: kept.products,
    };
    let to = attention::Gradients {
        q: to_q,
        k: to_k,
        v: to_v,
    };
    let (out, grad) = (Heads::reading(&kept.out), Heads::reading(&grad));
    attention.backward(Level::current(), out, grad, &kept.logs, to);
    gradients
});
