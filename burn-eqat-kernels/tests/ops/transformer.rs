//! What a transformer does between its products, against Burn's own ops on the device: values and gradients.

use crate::operands::{assert_within, config, values};
use crate::{device, is_cube};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Bool, DType, Device, Distribution, Tensor};
use burn_eqat_kernels::{causal_attention, exp, rms_norm, rotary, supports, swiglu};
use proptest::prelude::*;

/// How far results may be apart, of their size.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F16 => 1e-2,
        DType::BF16 => 8e-2,
        _ => 2e-6,
    }
}

/// `least` is the size of what a result is the sum of, even where that cancels.
fn assert_close<const D: usize>(
    what: &str,
    actual: Tensor<D>,
    expected: Tensor<D>,
    (dtype, least): (DType, f32),
) {
    assert_within(what, actual, dtype, expected, |largest| {
        tolerance(dtype) * largest.max(least)
    });
}

fn random<const D: usize>(shape: [usize; D], dtype: DType, device: &Device) -> Tensor<D> {
    let uniform = Distribution::Uniform(-1.0, 1.0);
    Tensor::<D>::random(shape, uniform, device).cast(burn::tensor::FloatDType::from(dtype))
}

fn types() -> impl Strategy<Value = DType> {
    let all = [DType::F32, DType::F16, DType::BF16];
    let here = all.into_iter().filter(|dtype| supports(&device(), *dtype));
    prop::sample::select(here.collect::<Vec<_>>())
}

/// Up to several tiles of positions; few where the ops are Burn's, and each shape compiles kernels.
fn queries() -> impl Strategy<Value = usize> {
    prop::sample::select(match is_cube(&device()) {
        true => vec![1, 5],
        false => vec![1, 2, 7, 64, 65, 130],
    })
}

/// Burn 0.22.1 refuses products that sum over one number, for sixteen columns or a multiple, on CubeCL's CPU runtime; these
/// lead to none.
fn widths() -> std::ops::Range<usize> {
    match std::env::var("BURN_DEVICE").as_deref() {
        Ok("cpu") => 2..16,
        _ => 1..20,
    }
}

/// Turns the middle sides of a tensor over, as heads and positions are.
fn turned(x: Tensor<4>) -> Tensor<4> {
    x.swap_dims(1, 2)
}

/// Results and their gradients by leaves, once by one of ours and once by Burn's ops.
macro_rules! compare {
    ($dtype:expr, [$($leaf:ident),+], $ours:expr, $theirs:expr) => {
        compare!($dtype, 1.0, [$($leaf),+], $ours, $theirs)
    };
    ($dtype:expr, $least:expr, [$($leaf:ident),+], $ours:expr, $theirs:expr) => {{
        let kind = ($dtype, $least);
        let y = $ours;
        assert_close("plain", y.clone(), $theirs, kind);
        let weight = random(y.dims(), $dtype, &device());
        $(let $leaf = Tensor::from_inner($leaf).require_grad();)+
        // Used twice, so a result is kept while its gradient is worked out.
        let gradients = |y: &Tensor<_>| {
            let loss = (y.clone() * Tensor::from_inner(weight.clone())).sum() + y.clone().sum();
            loss.backward()
        };
        let (y, expected) = ($ours, $theirs);
        let (of, expected_of) = (gradients(&y), gradients(&expected));
        assert_close("y", y.inner(), expected.inner(), kind);
        $(assert_close(
            stringify!($leaf),
            $leaf.grad(&of).unwrap(),
            $leaf.grad(&expected_of).unwrap(),
            kind,
        );)+
    }};
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn exp_is_burns(rows in 1usize..5, columns in 1usize..90, turn: bool, dtype in types()) {
        let x = random([rows, columns], dtype, &device()) * 4.0;
        let over = |x: Tensor<2>| if turn { x.transpose() } else { x };
        compare!(dtype, [x], over(exp(over(x.clone()))), x.clone().exp());
    }

    #[test]
    fn swiglu_is_burns(rows in 1usize..5, columns in 1usize..90, dtype in types()) {
        let gate = random([rows, columns], dtype, &device());
        let up = random([rows, columns], dtype, &device());
        compare!(
            dtype,
            [gate, up],
            swiglu(gate.clone(), up.clone()),
            silu(gate.clone()) * up.clone()
        );
    }

    #[test]
    fn rms_norm_is_burns(rows in 1usize..70, width in 1usize..90, dtype in types()) {
        let x = random([2, rows, width], dtype, &device());
        let gamma = random([width], dtype, &device());
        compare!(
            dtype,
            [x, gamma],
            rms_norm(x.clone(), gamma.clone(), 1e-3),
            {
                let size = (x.clone().square().mean_dim(2) + 1e-3).sqrt();
                x.clone() / size * gamma.clone().unsqueeze()
            }
        );
    }

    #[test]
    fn rotary_rotates_halves(
        [batch, heads, positions, half] in [1usize..3, 1..4, 1..20, 1..20],
        turn: bool,
        dtype in types(),
    ) {
        let [first, second] = match turn {
            true => [positions, heads],
            false => [heads, positions],
        };
        let x = random([batch, first, second, 2 * half], dtype, &device());
        let over = |x: Tensor<4>| if turn { turned(x) } else { x };
        let table = || random([positions, half], dtype, &device());
        let (cos, sin) = (table(), table());
        let on = |table: &Tensor<2>, x: &Tensor<4>| match x.is_autodiff() {
            true => Tensor::from_inner(table.clone()),
            false => table.clone(),
        };
        compare!(dtype, [x], over(rotary(over(x.clone()), on(&cos, &x), on(&sin, &x))), {
            let x = over(x.clone());
            let (cos, sin): (Tensor<4>, Tensor<4>) =
                (on(&cos, &x).unsqueeze(), on(&sin, &x).unsqueeze());
            let a = x.clone().slice_dim(3, 0..half);
            let b = x.slice_dim(3, half..2 * half);
            let first = a.clone() * cos.clone() - b.clone() * sin.clone();
            over(Tensor::cat(vec![first, a * sin + b * cos], 3))
        });
    }

    #[test]
    fn causal_attention_is_softmax_over_what_is_seen(
        [batch, kv_heads, share] in [1usize..3, 1..3, 1..4],
        queries in queries(),
        before in 0usize..40,
        [width, v_width] in [widths(), widths()],
        window in prop::option::of(1usize..90),
        turn: bool,
        dtype in types(),
    ) {
        let keys = before + queries;
        let heads = |heads, positions, width| match turn {
            true => turned(random([batch, positions, heads, width], dtype, &device())),
            false => random([batch, heads, positions, width], dtype, &device()),
        };
        let q = heads(kv_heads * share, queries, width);
        let k = heads(kv_heads, keys, width);
        let v = heads(kv_heads, keys, v_width);
        let hidden: Vec<bool> = (0..queries * keys).map(|i| {
            let (own, key) = (before + i / keys, i % keys);
            key > own || window.is_some_and(|window| own - key >= window)
        }).collect();
        let hidden = Tensor::<1, Bool>::from_data(hidden.as_slice(), &device());
        let hidden = hidden.reshape([1, 1, queries, keys]);
        let least = v_width as f32;
        compare!(dtype, least, [q, k, v], causal_attention(q.clone(), k.clone(), v.clone(), window), {
            let hidden = match q.is_autodiff() {
                true => Tensor::from_inner(hidden.clone()),
                false => hidden.clone(),
            };
            let all = |x: &Tensor<4>| {
                let [_, _, positions, width] = x.dims();
                // Not by `repeat_dim`, whose gradient is a `sum_dim`: over a side of one, of what is transposed,
                // Burn 0.22.1 gets that wrong on CubeCL.
                let x = Tensor::cat(vec![x.clone().unsqueeze_dim::<5>(2); share], 2);
                x.reshape([batch, kv_heads * share, positions, width])
            };
            let scores = q.clone().matmul(all(&k).swap_dims(2, 3)) / (width as f64).sqrt();
            let hidden = hidden.expand(scores.dims());
            softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3).matmul(all(&v))
        });
    }
}

/// Nothing is written over that somebody else reads.
#[test]
fn operands_stay_as_they_are() {
    let x = random([2, 3, 4, 10], DType::F32, &device());
    let before = values(x.clone());
    let part = x.clone().slice([1..2, 0..2, 1..3, 3..7]);
    let expected = values(part.clone().exp());
    let close = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs())
    };
    assert!(close(&values(exp(part.clone())), &expected));
    let table = random([2, 2], DType::F32, &device());
    rotary(part.clone(), table.clone(), table);
    swiglu(x.clone(), x.clone());
    causal_attention(part.clone(), part.clone(), part, Some(1));
    assert_eq!(values(x.clone()), before);
    // Beside gradients, but with none of its own.
    let frozen = Tensor::from_inner(x);
    let untracked = exp(frozen.clone());
    assert!(!untracked.is_tracked());
    assert_eq!(
        values(untracked.inner()),
        values(exp(frozen.clone().inner()))
    );
    assert_eq!(values(frozen.inner()), before);
}
