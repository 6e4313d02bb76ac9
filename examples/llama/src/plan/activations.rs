//! What a training step keeps of a block between its forward and its backward pass.

use super::shape::{BlockShape, ModelShape, product, sum};

/// The ops of a block that is trained on a batch, in the order of the forward pass.
pub(super) struct Tape {
    ops: Vec<Op>,
}

/// An op and what it takes in bytes.
#[derive(Clone, Copy)]
struct Op {
    /// What it keeps for its backward pass.
    kept: u64,
    /// Gradients that are there while its backward pass runs, and temporaries of it.
    flows: u64,
    /// Gradients of weights that it leaves until the end of the backward pass.
    left: u64,
}

/// How a step computes.
#[derive(Clone, Copy)]
pub(super) struct Compute {
    /// Bytes of an activation.
    pub float: u64,
    /// Whether norms, attention and the feed-forward activation are one op each, which keep only what they get and make, in f32.
    /// Else each consists of Burn's ops, which keep what is between them, the attention weights above all.
    pub fused: bool,
    pub windows: usize,
    pub seq_len: usize,
}

impl Compute {
    /// Bytes of as many values for each token of a batch.
    pub fn each_token(self, values: usize) -> u64 {
        product([self.windows, self.seq_len, values]).saturating_mul(self.float)
    }

    pub fn each_token_in_f32(self, values: usize) -> u64 {
        product([self.windows, self.seq_len, values, 4])
    }
}

impl Tape {
    /// The tape of a block whose weights train, as they do in Block-AP (`dense`), or one that runs from packed weights.
    pub fn new(model: &ModelShape, block: &BlockShape, compute: Compute, dense: bool) -> Self {
        let of = |values| compute.each_token(values);
        let (hidden, queries, keys, inner) = (
            of(model.hidden),
            of(model.queries),
            of(model.keys),
            of(model.inner),
        );
        let weights = |index: usize| {
            let weights = block
                .matrices
                .get(index)
                .map_or(0, |matrix| matrix.weights());
            if dense {
                weights.saturating_mul(compute.float)
            } else {
                0
            }
        };
        // Norms, and what is fused, get f32, and keep that copy where activations have 16 bits.
        let wide = |values| compute.each_token_in_f32(values);
        // What a norm keeps: its input; or also what it is before it is scaled.
        let norm = if compute.fused {
            wide(model.hidden)
        } else {
            wide(2 * model.hidden)
        };
        // The gradient of the residual stream is there all the time.
        let op = |kept: &[u64], flows: &[u64], left: u64| Op {
            kept: sum(kept.iter().copied()),
            flows: sum(flows.iter().copied()).saturating_add(hidden),
            left,
        };
        // A linear layer keeps its input, which others may share, and, where the weight trains, the fake-quantized weight, and
        // leaves the gradient of that. `flows` are the gradients of its input and output, and those that others will get.
        let linear = |index: usize, kept: u64, flows: u64| {
            let weights = weights(index);
            op(&[kept, weights], &[flows], weights)
        };
        let attention = if compute.fused {
            let logs = compute.each_token_in_f32(model.heads);
            let ends = wide(2 * model.queries + 2 * model.keys);
            op(&[ends, logs], &[ends], 0)
        } else {
            // Attention weights of each position and those before it, by tiles of 64 positions.
            let pairs = product([
                compute.windows,
                model.heads,
                compute.seq_len,
                compute.seq_len + 64,
            ]);
            let weights = (pairs / 2).saturating_mul(compute.float);
            let tile = product([compute.windows, model.heads, compute.seq_len, 64])
                .saturating_mul(compute.float);
            op(
                &[3 * queries, 2 * keys, weights],
                &[queries, 2 * keys, 3 * tile],
                0,
            )
        };
        // What the fused attention makes is the next layer's input as it is, in f32.
        let attended = if compute.fused && compute.float == 4 {
            0
        } else {
            queries
        };
        // `silu(gate) * up` keeps both; in separate ops also the sigmoid and the product with it.
        let (swiglu, flowing) = match compute.fused {
            true => (wide(2 * model.inner), wide(3 * model.inner)),
            false => (4 * inner, 3 * inner),
        };
        let ops = vec![
            op(&[norm], &[hidden], 0),
            linear(0, hidden, sum([hidden, queries])),
            linear(1, 0, sum([hidden, queries, keys])),
            linear(2, 0, sum([hidden, queries, 2 * keys])),
            attention,
            linear(3, attended, queries),
            op(&[norm], &[hidden], 0),
            linear(4, hidden, sum([hidden, inner])),
            linear(5, 0, sum([hidden, 2 * inner])),
            op(&[swiglu], &[flowing], 0),
            linear(6, inner, inner),
            // The difference to the target; behind a packed block the gradient comes from the next one.
            op(&[if dense { hidden } else { 0 }], &[hidden], 0),
        ];
        Self { ops }
    }

    /// Bytes that are kept at the end of the forward pass.
    pub fn kept(&self) -> u64 {
        sum(self.ops.iter().map(|op| op.kept))
    }

    /// The most bytes in the backward pass: each op frees what it kept, and leaves the gradients of its weights.
    pub fn peak(&self) -> u64 {
        let at = |index: usize| {
            let kept = sum(self.ops[..=index].iter().map(|op| op.kept));
            let left = sum(self.ops[index..].iter().map(|op| op.left));
            sum([kept, left, self.ops[index].flows])
        };
        (0..self.ops.len()).map(at).max().unwrap_or_default()
    }
}
