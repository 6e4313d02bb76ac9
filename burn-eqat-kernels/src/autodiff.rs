//! Hand-written gradients of the ops. The backward pass keeps the packed words, never the dense weight, and it runs
//! the backend's own fast backward ops.

use crate::{Bits, QuantOps, portable};
use burn::backend::TensorMetadata;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::Shape;

impl<B: QuantOps, C: CheckpointStrategy> QuantOps for Autodiff<B, C> {
    fn fake_quantize(
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let nodes = [weight.node(), scales.node(), zero_points.node()];
        let (weight, scales, zero_points) = (
            weight.into_primitive(),
            scales.into_primitive(),
            zero_points.into_primitive(),
        );
        match FakeQuantizeBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let out =
                    B::fake_quantize(weight.clone(), scales.clone(), zero_points.clone(), bits);
                prep.finish((weight, scales, zero_points, bits), out)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::fake_quantize(weight, scales, zero_points, bits))
            }
        }
    }

    fn quant_unpack(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        B::quant_unpack(codes, bits, len)
    }

    fn quant_unpack_columns(codes: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        B::quant_unpack_columns(codes, bits, len)
    }

    fn quant_dequantize(
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        let nodes = [scales.node(), zero_points.node()];
        let (scales, zero_points) = (scales.into_primitive(), zero_points.into_primitive());
        match DequantizeBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let out = B::quant_dequantize(
                    codes.clone(),
                    scales.clone(),
                    zero_points.clone(),
                    bits,
                    d_input,
                );
                prep.finish((codes, scales, zero_points, bits, d_input), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::quant_dequantize(
                codes,
                scales,
                zero_points,
                bits,
                d_input,
            )),
        }
    }

    fn quant_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scales.node(), zero_points.node()];
        let scale_tracked = scales.is_tracked() || zero_points.is_tracked();
        let (x, scales, zero_points) = (
            x.into_primitive(),
            scales.into_primitive(),
            zero_points.into_primitive(),
        );
        match LinearBackward::<3>
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state =
                    LinearState::new(&x, &codes, &scales, &zero_points, bits, scale_tracked);
                prep.finish(state, B::quant_linear(x, codes, scales, zero_points, bits))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::quant_linear(x, codes, scales, zero_points, bits))
            }
        }
    }

    fn quant_linear_bias(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        zero_points: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scales.node(), zero_points.node(), bias.node()];
        let scale_tracked = scales.is_tracked() || zero_points.is_tracked();
        let (x, scales, zero_points) = (
            x.into_primitive(),
            scales.into_primitive(),
            zero_points.into_primitive(),
        );
        let bias = bias.into_primitive();
        match LinearBackward::<4>
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state =
                    LinearState::new(&x, &codes, &scales, &zero_points, bits, scale_tracked);
                prep.finish(
                    state,
                    B::quant_linear_bias(x, codes, scales, zero_points, bias, bits),
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(B::quant_linear_bias(
                x,
                codes,
                scales,
                zero_points,
                bias,
                bits,
            )),
        }
    }
}

#[derive(Debug)]
struct FakeQuantizeBackward;

impl<B: QuantOps> Backward<B, 3> for FakeQuantizeBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, Bits);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (weight, scales, zero_points, bits) = ops.state;
        let (d_weight, d_scales, d_zero_points) =
            B::fake_quantize_backward(weight, scales, zero_points, grad, bits);
        for (node, gradient) in ops
            .parents
            .into_iter()
            .zip([d_weight, d_scales, d_zero_points])
        {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct DequantizeBackward;

impl<B: QuantOps> Backward<B, 2> for DequantizeBackward {
    type State = (IntTensor<B>, FloatTensor<B>, FloatTensor<B>, Bits, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (codes, scales, zero_points, bits, d_input) = ops.state;
        let (d_scales, d_zero_points) =
            B::quant_dequantize_backward(codes, scales, zero_points, grad, bits, d_input);
        for (node, gradient) in ops.parents.into_iter().zip([d_scales, d_zero_points]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Backward of `quant_linear`. It has four parents with a bias, three without.
#[derive(Debug)]
struct LinearBackward<const N: usize>;

/// The state that the backward pass of `quant_linear` keeps.
#[derive(Debug, Clone)]
struct LinearState<B: QuantOps> {
    /// The input, only where step sizes or zero points train.
    x: Option<FloatTensor<B>>,
    codes: IntTensor<B>,
    scales: FloatTensor<B>,
    zero_points: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
}

impl<B: QuantOps> LinearState<B> {
    fn new(
        x: &FloatTensor<B>,
        codes: &IntTensor<B>,
        scales: &FloatTensor<B>,
        zero_points: &FloatTensor<B>,
        bits: Bits,
        scale_tracked: bool,
    ) -> Self {
        Self {
            x: scale_tracked.then(|| x.clone()),
            codes: codes.clone(),
            scales: scales.clone(),
            zero_points: zero_points.clone(),
            bits,
            d_input: x.shape()[1],
        }
    }
}

impl<B: QuantOps, const N: usize> Backward<B, N> for LinearBackward<N> {
    type State = LinearState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let LinearState {
            x,
            codes,
            scales,
            zero_points,
            bits,
            d_input,
        } = ops.state;
        let mut parents = ops.parents.into_iter();
        let mut next = || parents.next().flatten();
        let (node_x, node_scales, node_zero_points, node_bias) = (next(), next(), next(), next());

        if let Some(node) = node_bias {
            let columns = grad.shape()[1];
            let dtype = grad.dtype();
            let sum = B::float_sum_dim(portable::widen::<B>(grad.clone()), 0);
            let sum = portable::cast::<B>(B::float_reshape(sum, Shape::new([columns])), dtype);
            grads.register::<B>(node.id, sum);
        }
        if let Some(x) = x {
            let (d_scales, d_zero_points) = B::quant_linear_backward_scale(
                x,
                codes.clone(),
                scales.clone(),
                zero_points.clone(),
                grad.clone(),
                bits,
            );
            if let Some(node) = node_scales {
                grads.register::<B>(node.id, d_scales);
            }
            if let Some(node) = node_zero_points {
                grads.register::<B>(node.id, d_zero_points);
            }
        }
        if let Some(node) = node_x {
            let dx =
                B::quant_linear_backward_input(codes, scales, zero_points, grad, bits, d_input);
            grads.register::<B>(node.id, dx);
        }
    }
}
