//! The ops made of exponentials, against Burn's own, on the device: values and gradients.

use crate::device;
use crate::operands::config;
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{DType, Device, Distribution, Tensor};
use burn_eqat_kernels::{causal_weights, exp, supports, swiglu};
use proptest::prelude::*;

/// How far results may be apart, of their size.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        _ => 2e-6,
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn assert_close<const D: usize>(what: &str, actual: Tensor<D>, expected: Tensor<D>, dtype: DType) {
    assert_eq!(actual.dtype(), dtype, "{what}");
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let expected = values(expected);
    let size = expected.iter().fold(1.0f32, |size, e| size.max(e.abs()));
    for (at, (a, e)) in values(actual).iter().zip(&expected).enumerate() {
        let error = (a - e).abs();
        assert!(
            error <= tolerance(dtype) * size,
            "{what}, {at}: {a} is not {e}"
        );
    }
}

fn random<const D: usize>(shape: [usize; D], dtype: DType, device: &Device) -> Tensor<D> {
    let uniform = Distribution::Uniform(-4.0, 4.0);
    Tensor::<D>::random(shape, uniform, device).cast(burn::tensor::FloatDType::from(dtype))
}

fn types() -> impl Strategy<Value = DType> {
    let all = [DType::F32, DType::F16, DType::BF16];
    let here = all.into_iter().filter(|dtype| supports(&device(), *dtype));
    prop::sample::select(here.collect::<Vec<_>>())
}

/// An op and its gradients by its operands, once by one of ours and once by Burn's.
fn compare<const N: usize, const D: usize>(
    operands: [Tensor<D>; N],
    ours: impl Fn([Tensor<D>; N]) -> Tensor<D>,
    theirs: impl Fn([Tensor<D>; N]) -> Tensor<D>,
) {
    let dtype = operands[0].dtype();
    let plain = ours(operands.clone());
    assert_close("plain", plain.clone(), theirs(operands.clone()), dtype);
    let weight = random(plain.dims(), dtype, &plain.device());
    let run = |op: &dyn Fn([Tensor<D>; N]) -> Tensor<D>| {
        let leaves = operands
            .clone()
            .map(|x| Tensor::from_inner(x).require_grad());
        let y = op(leaves.clone());
        // Twice, as a result that others use too is kept.
        let loss = (y.clone() * Tensor::from_inner(weight.clone())).sum() + y.clone().sum();
        let gradients = loss.backward();
        let by = leaves.map(|leaf| leaf.grad(&gradients).unwrap());
        (y.inner(), by)
    };
    let (y, gradients) = run(&ours);
    let (expected_y, expected) = run(&theirs);
    assert_close("y", y, expected_y, dtype);
    for (actual, expected) in gradients.into_iter().zip(expected) {
        assert_close("gradient", actual, expected, dtype);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn exp_is_burns(rows in 1usize..5, columns in 1usize..90, turned: bool, dtype in types()) {
        let x = random([rows, columns], dtype, &device());
        let turn = move |x: Tensor<2>| if turned { x.transpose() } else { x };
        compare([x / 4.0], |[x]| turn(exp(turn(x))), |[x]| x.exp());
    }

    #[test]
    fn swiglu_is_burns(rows in 1usize..5, columns in 1usize..90, dtype in types()) {
        let operand = || random([rows, columns], dtype, &device());
        compare([operand(), operand()], |[g, u]| swiglu(g, u), |[g, u]| silu(g) * u);
    }

    #[test]
    fn causal_weights_are_softmax_over_what_is_seen(
        [batch, rows, before] in [1usize..4, 1..20, 0..30],
        window in prop::option::of(1usize..30),
        dtype in types(),
    ) {
        let keys = before + rows;
        let scores = random([batch, rows, keys], dtype, &device());
        let hidden: Vec<bool> = (0..rows * keys).map(|i| {
            let (own, key) = (before + i / keys, i % keys);
            key > own || window.is_some_and(|window| own - key >= window)
        }).collect();
        let mask = Tensor::<1, burn::tensor::Bool>::from_data(hidden.as_slice(), &device());
        let mask = mask.reshape([1, rows, keys]).expand([batch, rows, keys]);
        let ours = |[scores]: [Tensor<3>; 1]| {
            let weights = causal_weights(scores, window);
            weights.clone() / weights.sum_dim(2)
        };
        let theirs = |[scores]: [Tensor<3>; 1]| {
            let mask = match scores.is_autodiff() {
                true => Tensor::from_inner(mask.clone()),
                false => mask.clone(),
            };
            softmax(scores.mask_fill(mask, f32::NEG_INFINITY), 2)
        };
        compare([scores], ours, theirs);
    }
}

/// Frozen operands, and one used by others: nothing is written over that somebody else reads.
#[test]
fn operands_stay_as_they_are() {
    let x = random([3, 50], DType::F32, &device());
    let before = values(x.clone());
    let view = x.clone().slice([1..3, 0..20]);
    let expected = values(view.clone().exp());
    let close = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs())
    };
    assert!(close(&values(exp(view.clone())), &expected));
    let _ = (swiglu(x.clone(), x.clone()), causal_weights(view, Some(3)));
    assert_eq!(values(x.clone()), before);
    // In training, but not trained.
    let frozen = Tensor::from_inner(x);
    assert_eq!(
        values(exp(frozen.clone()).inner()),
        values(exp(frozen.clone().inner()))
    );
    assert_eq!(values(frozen.inner()), before);
}
