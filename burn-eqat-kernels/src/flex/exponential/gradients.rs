//! Backward passes.

use super::{kernel, zip};
use burn::backend::Flex;
use burn::backend::autodiff::{
    checkpoint::base::Checkpointer,
    grads::Gradients,
    ops::{Backward, Ops},
};
use burn::backend::ops::FloatTensorOps;
use burn_flex::FlexTensor;

/// Of an op whose gradient is its result times the result's gradient.
#[derive(Debug)]
pub(super) struct ProductBackward;

impl Backward<Flex, 1> for ProductBackward {
    type State = FlexTensor;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<Flex>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<Flex>(node.id, Flex::float_mul(grad, ops.state));
        }
    }
}

/// Of `silu(gate) * up`.
#[derive(Debug)]
pub(super) struct SwigluBackward;

impl Backward<Flex, 2> for SwigluBackward {
    type State = [FlexTensor; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<Flex>(&ops.node);
        let [gate, up] = ops.state;
        let gradients = zip(kernel::SwigluBackward, [gate, up, grad]);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}
