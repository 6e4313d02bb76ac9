//! Ops that are made of exponentials: where training a transformer spends the time that its products leave.
//!
//! They are Burn's own ops, put together. Flex, which takes exponentials one number at a time, has bodies of
//! its own here, in f32: a vector at a time, in one pass, forward and backward.

#[cfg(feature = "flex")]
use crate::flex::exponential::Operands;
use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// `e^x`, with gradients.
///
/// Off from the exact value by at most two units in the last place of f32 on Flex, and as Burn's elsewhere.
pub fn exp<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(operand) = Operands::of([&x]) {
        drop(x);
        return operand.exp();
    }
    x.exp()
}

/// `silu(gate) * up`, the middle of a SwiGLU feed-forward layer, with gradients.
///
/// # Shapes
///
/// - `gate`, `up` and output: the same
///
/// # Panics
///
/// As Burn's product does, when the shapes do not fit together.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(operands) = Operands::of([&gate, &up])
        && gate.dims() == up.dims()
    {
        return operands.swiglu();
    }
    silu(gate) * up
}

/// Causal attention's weights before they are divided by their sum: `e^(score - largest of the row)` where a row may
/// look, 0 elsewhere, with gradients. (To divide by the sum after the product with the values goes over fewer
/// numbers.)
///
/// The rows are the last positions of as many as there are keys: the last one sees every key, each other one
/// less than the next. With a window, a row sees so many keys at most, its own the last of them.
///
/// # Shapes
///
/// - `scores` and output: `[.., rows, keys]`, with no more rows than keys
///
/// # Panics
///
/// When there are fewer than two dimensions, more rows than keys, or a window of none.
pub fn causal_weights<const D: usize>(scores: Tensor<D>, window: Option<usize>) -> Tensor<D> {
    let dims = scores.dims();
    let (rows, keys) = (dims[D - 2], dims[D - 1]);
    assert!(rows <= keys, "{rows} rows, expected no more than {keys}");
    assert!(window != Some(0), "a window of 0, expected 1 or more");
    #[cfg(feature = "flex")]
    if let Some(operand) = Operands::of([&scores]) {
        drop(scores);
        return operand.causal_weights(rows, keys, window);
    }
    let scores = scores.clone() + causal_mask(rows, keys, window, scores.dtype(), &scores.device());
    let largest = scores.clone().detach().max_dim(D - 1);
    (scores - largest).exp()
}

/// Minus infinity where a row may not look, else 0: `[1, .., rows, keys]`.
fn causal_mask<const D: usize>(
    rows: usize,
    keys: usize,
    window: Option<usize>,
    dtype: DType,
    device: &Device,
) -> Tensor<D> {
    let values = (0..rows).flat_map(|row| {
        let own = keys - rows + row;
        let seen = own + 1 - window.unwrap_or(keys).min(own + 1)..own + 1;
        (0..keys).map(move |key| match seen.contains(&key) {
            true => 0.0,
            false => f32::NEG_INFINITY,
        })
    });
    let mut shape = [1; D];
    shape[D - 2..].copy_from_slice(&[rows, keys]);
    let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
    Tensor::from_data(data, (device, dtype))
}
