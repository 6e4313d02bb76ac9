//! Compares the ops between a transformer's matmuls with Burn's own ops on the device: values and gradients.

use crate::operands::{assert_within, config, values};
use crate::{device, is_cube, multiplies_in_tf32};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Bool, DType, Device, Distribution, Tensor};
use burn_eqat_kernels::transformer::{
    causal_attention, exp, linear, matmul_wide, rms_norm, rotary, swiglu,
};
use burn_eqat_kernels::{multiplies, supports};
use proptest::prelude::*;

/// The allowed relative difference of results.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F16 => 1e-2,
        DType::BF16 => 8e-2,
        DType::F32 if multiplies_in_tf32() => 4e-3,
        _ => 2e-6,
    }
}

/// `least` is the size of the terms of a result's sum, even if they cancel.
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

/// Up to several tiles of positions; fewer if the ops are Burn's, since each shape compiles kernels.
fn queries() -> impl Strategy<Value = usize> {
    prop::sample::select(if is_cube(&device()) {
        vec![1, 5]
    } else {
        vec![1, 2, 7, 64, 65, 130]
    })
}

/// On CubeCL's CPU runtime, Burn 0.22.1 fails on matmuls that sum over one number, for multiples of sixteen rows or columns.
/// These widths avoid such matmuls.
fn widths() -> std::ops::Range<usize> {
    match std::env::var("BURN_DEVICE").as_deref() {
        Ok("cpu") => 2..16,
        _ => 1..20,
    }
}

/// How many keys may be cached. On CubeCL's CPU runtime and without autotune, Burn 0.22.1 refuses some 16-bit matmuls of 32 keys
/// ([`multiplies`](burn_eqat_kernels::multiplies)), which no problem has here. Nor has one a query and fifteen cached keys there: a
/// key's gradient then sums over one number, as in [`widths`], for sixteen keys.
fn cached() -> impl Strategy<Value = usize> {
    let refuses =
        cfg!(not(feature = "autotune")) && std::env::var("BURN_DEVICE").as_deref() == Ok("cpu");
    let most = if refuses { 27 } else { 40 };
    (0usize..most).prop_filter("sixteen keys and one query", move |before| {
        !(refuses && *before == 15)
    })
}

/// Swaps the middle axes of a tensor, heads and positions.
fn turned(x: Tensor<4>) -> Tensor<4> {
    x.swap_dims(1, 2)
}

/// Compares results and their gradients by leaves between one of our ops and Burn's ops.
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
            swiglu(gate.clone(), up.clone()).unwrap(),
            silu(gate.clone()) * up.clone()
        );
    }

    #[test]
    fn rms_norm_is_burns(rows in 1usize..70, width in 1usize..90, dtype in types()) {
        let x = random([2, rows, width], dtype, &device());
        let gamma = random([width], dtype, &device());
        // A gradient is a difference of terms as large as this, which cancel where rows are short.
        let size = (x.clone().cast(DType::F32).square().mean_dim(2) + 1e-3).sqrt();
        let least = 2.0 / size.min().into_scalar::<f32>();
        compare!(
            dtype,
            least,
            [x, gamma],
            rms_norm(x.clone(), gamma.clone(), 1e-3).unwrap(),
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
        let [first, second] = if turn {
            [positions, heads]
        } else {
            [heads, positions]
        };
        let x = random([batch, first, second, 2 * half], dtype, &device());
        let over = |x: Tensor<4>| if turn { turned(x) } else { x };
        let table = || random([positions, half], dtype, &device());
        let (cos, sin) = (table(), table());
        let on = |table: &Tensor<2>, x: &Tensor<4>| {
            if x.is_autodiff() {
                Tensor::from_inner(table.clone())
            } else {
                table.clone()
            }
        };
        compare!(dtype, [x], over(rotary(over(x.clone()), on(&cos, &x), on(&sin, &x)).unwrap()), {
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
        before in cached(),
        [width, v_width] in [widths(), widths()],
        window in prop::option::of(1usize..90),
        turn: bool,
        dtype in types(),
    ) {
        let keys = before + queries;
        let heads = |heads, positions, width| {
            if turn {
                turned(random([batch, positions, heads, width], dtype, &device()))
            } else {
                random([batch, heads, positions, width], dtype, &device())
            }
        };
        let q = heads(kv_heads * share, queries, width);
        let k = heads(kv_heads, keys, width);
        let v = heads(kv_heads, keys, v_width);
        let least = v_width as f32;
        compare!(
            dtype,
            least,
            [q, k, v],
            causal_attention(q.clone(), k.clone(), v.clone(), window).unwrap(),
            softmax_over_seen([&q, &k, &v], window)
        );
    }
}

/// Attention by its definition: the weights of all queries and keys at once, with zeros for hidden keys.
fn softmax_over_seen([q, k, v]: [&Tensor<4>; 3], window: Option<usize>) -> Tensor<4> {
    let ([batch, heads, queries, width], [_, kv_heads, keys, _]) = (q.dims(), k.dims());
    let before = keys - queries;
    let hidden: Vec<bool> = (0..queries * keys)
        .map(|i| {
            let (own, key) = (before + i / keys, i % keys);
            key > own || window.is_some_and(|window| own - key >= window)
        })
        .collect();
    let hidden = Tensor::<1, Bool>::from_data(hidden.as_slice(), &q.device());
    let all = |x: &Tensor<4>| {
        let [_, _, positions, width] = x.dims();
        // Not by `repeat_dim`, whose gradient is a `sum_dim`: over a side of one, of what is transposed, Burn 0.22.1
        // gets that wrong on CubeCL.
        let x = Tensor::cat(vec![x.clone().unsqueeze_dim::<5>(2); heads / kv_heads], 2);
        x.reshape([batch, heads, positions, width])
    };
    let scores = q.clone().matmul(all(k).swap_dims(2, 3)) / (width as f64).sqrt();
    let hidden = hidden.reshape([1, 1, queries, keys]).expand(scores.dims());
    softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3).matmul(all(v))
}

/// More positions than in a tile, and than Burn's fused kernels take at a time; with and without cached keys, and with
/// heads that share keys.
#[test]
fn attention_of_many_positions() {
    let on_cpu_runtime = std::env::var("BURN_DEVICE").as_deref() == Ok("cpu");
    if on_cpu_runtime && cfg!(not(feature = "autotune")) {
        println!(
            "skipped: without autotune Burn refuses matmuls of these shapes on CubeCL's CPU runtime"
        );
        return;
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !supports(&device(), dtype) {
            println!("skipped: no {dtype:?}");
            continue;
        }
        for ([queries, keys], window) in [
            ([130, 130], None),
            ([131, 150], None),
            ([67, 200], None),
            ([130, 133], Some(40)),
            // As good as no window.
            ([70, 70], Some(70)),
        ] {
            let heads = |heads, positions| random([2, heads, positions, 16], dtype, &device());
            let (q, k, v) = (heads(4, queries), heads(2, keys), heads(2, keys));
            let actual = causal_attention(q.clone(), k.clone(), v.clone(), window).unwrap();
            let expected = softmax_over_seen([&q, &k, &v], window);
            let what = format!("{queries} of {keys}, window {window:?}");
            assert_close(&what, actual, expected, (dtype, 16.0));
        }
    }
}

/// In half precision, norms and rotary positions take f32 weights and tables, as exact as they are: the result is that of f32,
/// rounded once, and each gradient is in the type of its operand.
#[test]
fn half_precision_beside_f32() {
    let half = [DType::F16, DType::BF16];
    for dtype in half.into_iter().filter(|dtype| supports(&device(), *dtype)) {
        let finest = if dtype == DType::F16 { 6e-4 } else { 5e-3 };
        let close = |what: &str, actual: Vec<f32>, expected: Vec<f32>| {
            assert_eq!(actual.len(), expected.len(), "{what}");
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (a, e) in actual.iter().zip(&expected) {
                assert!((a - e).abs() <= finest * largest, "{what}: {a} is not {e}");
            }
        };
        let leaf = |x: &Tensor<4>| Tensor::from_inner(x.clone()).require_grad();
        let wide = |x: &Tensor<4>| x.clone().cast(DType::F32);

        // Squares of these overflow in f16.
        let x = random([2, 3, 5, 38], dtype, &device()) * 300.0;
        let gamma = random([38], DType::F32, &device());
        let run = |x: Tensor<4>| {
            let dtype = x.dtype();
            let (x, gamma) = (leaf(&x), Tensor::from_inner(gamma.clone()).require_grad());
            let y = rms_norm(x.clone(), gamma.clone(), 1e-5).unwrap();
            assert_eq!(y.dtype(), dtype);
            let grads = y.clone().cast(DType::F32).sum().backward();
            let (dx, dgamma) = (x.grad(&grads).unwrap(), gamma.grad(&grads).unwrap());
            assert_eq!((dx.dtype(), dgamma.dtype()), (dtype, DType::F32));
            (values(y.inner()), values(dx), values(dgamma))
        };
        let (actual, expected) = (run(x.clone()), run(wide(&x)));
        close("norm", actual.0, expected.0);
        close("norm, dx", actual.1, expected.1);
        close("norm, dgamma", actual.2, expected.2);

        let tables = [(); 2].map(|_| random([5, 19], DType::F32, &device()));
        let run = |x: Tensor<4>| {
            let dtype = x.dtype();
            let [cos, sin] = tables.clone().map(Tensor::from_inner);
            let x = leaf(&x);
            let y = rotary(x.clone(), cos, sin).unwrap();
            assert_eq!(y.dtype(), dtype);
            let dx = x
                .grad(&y.clone().cast(DType::F32).sum().backward())
                .unwrap();
            assert_eq!(dx.dtype(), dtype);
            (values(y.inner()), values(dx))
        };
        let (actual, expected) = (run(x.clone()), run(wide(&x)));
        close("rotary", actual.0, expected.0);
        close("rotary, dx", actual.1, expected.1);
    }
}

/// Operands that do not fit together are an error that names the op and the size.
#[test]
fn sizes_that_do_not_fit_are_refused() {
    let of = |shape: [usize; 4]| Tensor::<4>::zeros(shape, &device());
    let refused = |[q, k, v]: [[usize; 4]; 3], window, message: &str| {
        let result = causal_attention(of(q), of(k), of(v), window);
        assert_eq!(
            result.unwrap_err().to_string(),
            format!("causal_attention: {message}")
        );
    };
    let k = [1, 2, 5, 8];
    refused(
        [[1, 4, 3, 6], k, k],
        None,
        "k has shape [1, 2, 5, 8], expected [1, 2, 5, 6]",
    );
    refused(
        [[1, 4, 3, 8], k, [1, 2, 4, 8]],
        None,
        "v has shape [1, 2, 4, 8], expected [1, 2, 5, 8]",
    );
    refused(
        [[1, 3, 3, 8], k, k],
        None,
        "the number of heads is 3, expected a multiple of the 2 key heads",
    );
    refused(
        [[1, 4, 6, 8], k, k],
        None,
        "the number of queries is 6, expected at most the 5 keys",
    );
    refused(
        [[1, 4, 3, 8], k, k],
        Some(0),
        "the window is 0, expected at least 1",
    );

    let table = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &device());
    let error = rotary(of([1, 2, 3, 5]), table([3, 2]), table([3, 2])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rotary: the width of a head is 5, expected an even number"
    );
    let error = rotary(of([1, 2, 3, 4]), table([3, 2]), table([2, 2])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rotary: sin has shape [2, 2], expected [3, 2]"
    );
    let error = swiglu(table([2, 3]), table([2, 4])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "swiglu: up has shape [2, 4], expected [2, 3]"
    );
    let gamma = Tensor::<1>::zeros([4], &device());
    let error = rms_norm(table([2, 3]), gamma, 1e-5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rms_norm: gamma has shape [4], expected [3]"
    );
}

/// Attention with an empty batch or without queries is not an error.
#[test]
fn attention_of_nothing() {
    for [batch, queries] in [[0, 3], [2, 0]] {
        let of = |heads, positions| Tensor::<4>::zeros([batch, heads, positions, 8], &device());
        let out = causal_attention(of(4, queries), of(2, 5), of(2, 5), None).unwrap();
        assert_eq!(out.dims(), [batch, 4, queries, 8]);
    }
}

/// Tensors that others read are not overwritten.
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
    rotary(part.clone(), table.clone(), table).unwrap();
    swiglu(x.clone(), x.clone()).unwrap();
    causal_attention(part.clone(), part.clone(), part, Some(1)).unwrap();
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

/// Rows, inputs and outputs of dense layers: odd ones, and on Flex such as are split into parts.
fn layers() -> Vec<[usize; 3]> {
    if is_cube(&device()) {
        vec![[3, 7, 5], [13, 64, 33]]
    } else {
        vec![
            [1, 1, 1],
            [3, 7, 5],
            [13, 64, 33],
            [97, 65, 40],
            [200, 531, 70],
            [210, 20, 611],
        ]
    }
}

/// Checks numbers against those of products in f32 of operands that were rounded before: sums are not rounded, results once.
fn assert_rounded_once<const D: usize>(what: &str, actual: Tensor<D>, exact: Tensor<D>) {
    let unit = match actual.dtype() {
        // Arm adds in f16, in Flex's own products.
        DType::F16 if cfg!(target_arch = "aarch64") => 1e-2,
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ if multiplies_in_tf32() => 4e-3,
        // Sums in another order.
        _ => 1e-5,
    };
    let (actual, exact) = (values(actual), values(exact));
    assert_eq!(actual.len(), exact.len(), "{what}");
    let largest = exact.iter().fold(1f32, |largest, x| largest.max(x.abs()));
    for (a, e) in actual.iter().zip(&exact) {
        assert!((a - e).abs() <= unit * largest, "{what}: {a} is not {e}");
    }
}

/// A dense layer whose weight is f32: values and gradients are those of operands in the type of the input, and gradients have the
/// types of their operands.
#[test]
fn dense_layers_multiply_in_the_type_of_their_input() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !supports(&device(), dtype) || !multiplies(&device(), dtype) {
            println!("skipped: no products in {dtype:?}");
            continue;
        }
        for [m, k, n] in layers() {
            let what = format!("{m}x{k}x{n} in {dtype:?}");
            let x = random([2, m, k], dtype, &device());
            let weight = random([k, n], DType::F32, &device());
            let bias = random([n], DType::F32, &device());
            let out = random([2, m, n], dtype, &device());
            let wide = |x: &Tensor<3>| x.clone().cast(DType::F32).reshape([-1, x.dims()[2] as i32]);
            let rounded = weight.clone().cast(dtype).cast(DType::F32);

            let leaves = (
                Tensor::from_inner(x.clone()).require_grad(),
                Tensor::from_inner(weight.clone()).require_grad(),
                Tensor::from_inner(bias.clone()).require_grad(),
            );
            let y = linear(leaves.0.clone(), leaves.1.clone(), None).unwrap();
            assert_eq!(y.dtype(), dtype, "{what}");
            let exact = wide(&x).matmul(rounded.clone());
            let flat = |y: Tensor<3>| y.reshape([2 * m, n]);
            assert_rounded_once(&what, flat(y.clone().inner()), exact.clone());
            let grads = (y * Tensor::from_inner(out.clone())).sum().backward();
            let (dx, dw) = (
                leaves.0.grad(&grads).unwrap(),
                leaves.1.grad(&grads).unwrap(),
            );
            assert_eq!((dx.dtype(), dw.dtype()), (dtype, DType::F32), "{what}");
            let exact_dx = wide(&out).matmul(rounded.transpose());
            assert_rounded_once(&format!("{what}, dx"), dx.reshape([2 * m, k]), exact_dx);
            // On some backends it was in the type of the product, and cast.
            let exact_dw = wide(&x).transpose().matmul(wide(&out));
            assert_rounded_once(&format!("{what}, dw"), dw.cast(dtype), exact_dw);

            let y = linear(x, weight.clone(), Some(bias.clone())).unwrap();
            let exact = exact + bias.clone().cast(dtype).cast(DType::F32).unsqueeze();
            assert_rounded_once(&format!("{what}, with a bias"), flat(y), exact);
            let tracked = linear(leaves.0, leaves.1, Some(leaves.2.clone())).unwrap();
            let grads = (tracked * Tensor::from_inner(out.clone())).sum().backward();
            let by_bias = leaves.2.grad(&grads).unwrap();
            assert_eq!(by_bias.dtype(), DType::F32, "{what}");
            let exact = wide(&out).sum_dim(0).reshape([n]);
            let within = 2e-2 * (2.0 * m as f32);
            let off = (by_bias - exact).abs().max().into_scalar::<f32>();
            assert!(off <= within, "{what}, by the bias: off by {off}");
        }
    }
}

/// Products of which one operand is in half precision, in any order of memory, are in f32.
#[test]
fn wide_products_are_in_f32() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !supports(&device(), dtype) || !supports(&device(), DType::F32) {
            println!("skipped: no {dtype:?}");
            continue;
        }
        for [m, k, n] in layers() {
            let left = random([m, k], dtype, &device());
            let right = random([n, k], DType::F32, &device());
            let what = format!("{m}x{k}x{n} in {dtype:?}");
            let y = matmul_wide(left.clone(), right.clone().transpose()).unwrap();
            assert_eq!(y.dtype(), DType::F32, "{what}");
            let exact = left.cast(DType::F32).matmul(right.transpose());
            let size = (k as f32).sqrt();
            let off = (y - exact).abs().max().into_scalar::<f32>();
            // The right operand may be rounded to bf16.
            let most = if dtype == DType::F32 { 4e-3 } else { 1e-2 };
            assert!(off <= most * size, "{what}: off by {off}");
        }
    }
}

#[test]
fn dense_layers_refuse_what_does_not_fit() {
    let [x, weight] = [[3, 5], [4, 6]].map(|shape| random(shape, DType::F32, &device()));
    let error = linear(x.clone(), weight.clone(), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("weight"), "{error}");
    let bias = random([5], DType::F32, &device());
    let fits = random([5, 6], DType::F32, &device());
    let error = linear(x.clone(), fits, Some(bias)).unwrap_err().to_string();
    assert!(error.contains("bias"), "{error}");
    let error = matmul_wide(x, weight).unwrap_err().to_string();
    assert!(error.contains("right operand"), "{error}");
}
