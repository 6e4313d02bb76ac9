//! Gradients of the ops: written out, so that backward keeps the packed words and never the dense
//! weight, and so that a backend's fast backward is what runs.

use crate::{Bits, QuantOps};
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
    fn quant_fake(
        w: FloatTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let nodes = [w.node(), s.node(), z.node()];
        let (w, s, z) = (w.into_primitive(), s.into_primitive(), z.into_primitive());
        match FakeQuantizeBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let out = B::quant_fake(w.clone(), s.clone(), z.clone(), bits);
                prep.finish((w, s, z, bits), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::quant_fake(w, s, z, bits)),
        }
    }

    fn quant_unpack(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        B::quant_unpack(words, bits, len)
    }

    fn quant_unpack_columns(words: IntTensor<Self>, bits: Bits, len: usize) -> IntTensor<Self> {
        B::quant_unpack_columns(words, bits, len)
    }

    fn quant_dequantize(
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
        d_input: usize,
    ) -> FloatTensor<Self> {
        let nodes = [s.node(), z.node()];
        let (s, z) = (s.into_primitive(), z.into_primitive());
        match DequantizeBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let out = B::quant_dequantize(words.clone(), s.clone(), z.clone(), bits, d_input);
                prep.finish((words, s, z, bits, d_input), out)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::quant_dequantize(words, s, z, bits, d_input))
            }
        }
    }

    fn quant_linear(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), s.node(), z.node()];
        let scale_tracked = s.is_tracked() || z.is_tracked();
        let (x, s, z) = (x.into_primitive(), s.into_primitive(), z.into_primitive());
        match LinearBackward::<3>
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = LinearState::new(&x, &words, &s, &z, bits, scale_tracked);
                prep.finish(state, B::quant_linear(x, words, s, z, bits))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::quant_linear(x, words, s, z, bits)),
        }
    }

    fn quant_linear_bias(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        s: FloatTensor<Self>,
        z: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        bits: Bits,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), s.node(), z.node(), bias.node()];
        let scale_tracked = s.is_tracked() || z.is_tracked();
        let (x, s, z) = (x.into_primitive(), s.into_primitive(), z.into_primitive());
        let bias = bias.into_primitive();
        match LinearBackward::<4>
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = LinearState::new(&x, &words, &s, &z, bits, scale_tracked);
                prep.finish(state, B::quant_linear_bias(x, words, s, z, bias, bits))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::quant_linear_bias(x, words, s, z, bias, bits))
            }
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
        let (w, s, z, bits) = ops.state;
        let (dw, ds, dz) = B::quant_fake_backward(w, s, z, grad, bits);
        for (node, gradient) in ops.parents.into_iter().zip([dw, ds, dz]) {
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
        let (words, s, z, bits, d_input) = ops.state;
        let (ds, dz) = B::quant_dequantize_backward(words, s, z, grad, bits, d_input);
        for (node, gradient) in ops.parents.into_iter().zip([ds, dz]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Backward of `quant_linear`; with a bias there are four parents, else three.
#[derive(Debug)]
struct LinearBackward<const N: usize>;

/// What backward of `quant_linear` keeps.
#[derive(Debug, Clone)]
struct LinearState<B: QuantOps> {
    /// The input, only where step sizes or zero points train.
    x: Option<FloatTensor<B>>,
    words: IntTensor<B>,
    s: FloatTensor<B>,
    z: FloatTensor<B>,
    bits: Bits,
    d_input: usize,
}

impl<B: QuantOps> LinearState<B> {
    fn new(
        x: &FloatTensor<B>,
        words: &IntTensor<B>,
        s: &FloatTensor<B>,
        z: &FloatTensor<B>,
        bits: Bits,
        scale_tracked: bool,
    ) -> Self {
        Self {
            x: scale_tracked.then(|| x.clone()),
            words: words.clone(),
            s: s.clone(),
            z: z.clone(),
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
            words,
            s,
            z,
            bits,
            d_input,
        } = ops.state;
        let mut parents = ops.parents.into_iter();
        let mut next = || parents.next().flatten();
        let (node_x, node_s, node_z, node_bias) = (next(), next(), next(), next());

        if let Some(node) = node_bias {
            let columns = grad.shape()[1];
            let sum = B::float_sum_dim(grad.clone(), 0);
            grads.register::<B>(node.id, B::float_reshape(sum, Shape::new([columns])));
        }
        if let Some(x) = x {
            let (ds, dz) = B::quant_linear_backward_scale(
                x,
                words.clone(),
                s.clone(),
                z.clone(),
                grad.clone(),
                bits,
            );
            if let Some(node) = node_s {
                grads.register::<B>(node.id, ds);
            }
            if let Some(node) = node_z {
                grads.register::<B>(node.id, dz);
            }
        }
        if let Some(node) = node_x {
            let dx = B::quant_linear_backward_input(words, s, z, grad, bits, d_input);
            grads.register::<B>(node.id, dx);
        }
    }
}
