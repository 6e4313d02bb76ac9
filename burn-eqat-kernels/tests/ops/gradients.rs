//! Values and gradients of every op on random problems.

use crate::operands::{Pair, Problem, Weight, assert_close, assert_near, config, problems, spread};
use crate::{device, sizes};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use burn_eqat_kernels::{
    Activations, Bits, Fields, PackedWeight, fake_quantize, pack_codes, unpack, unpack_columns,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn unpack_gives_the_codes(p in problems()) {
        let weight = Weight::random(&p);
        let codes = unpack(weight.words, p.bits, p.k()).unwrap();
        codes.into_data().assert_eq(&weight.codes.into_data(), false);
    }

    #[test]
    fn unpack_columns_gives_the_zero_points(p in problems()) {
        let weight = Weight::random(&p);
        let values: Vec<i64> = weight.z.exact.clone().into_data().iter::<i64>().collect();
        let unpacked = unpack_columns(stored_zeros(&p, &weight), p.bits, p.n).unwrap();
        prop_assert_eq!(unpacked.into_data().iter::<i64>().collect::<Vec<_>>(), values);
    }

    #[test]
    fn stored_zero_points_make_no_difference(p in problems()) {
        let weight = Weight::random(&p);
        let zeros = stored_zeros(&p, &weight);
        let x = Pair::uniform([p.m, p.k()], -1.0, 1.0, p.dtype);
        let bias = Pair::uniform([p.n], -1.0, 1.0, p.bias_dtype);
        let z = weight.z.tested.clone();
        let bias = p.bias.then_some(bias.tested);
        let packed = |s| {
            PackedWeight::from_parts(weight.words.clone(), s, zeros.clone(), p.bits, p.k()).unwrap()
        };
        let run = |x: Tensor<2>, s| packed(s).linear(x, bias.clone()).unwrap();

        let (exact, x, s) = (x.exact, x.tested, weight.s.tested.clone());
        let y = run(x.clone(), s.clone());
        let expected = weight.affine(&p, s.clone(), z).linear(x.clone(), bias.clone()).unwrap();
        let dense = weight.dense(&p, weight.s.exact.clone(), weight.z.exact.clone());
        let terms = if p.m > 0 { sizes::of_product(exact.clone(), dense.clone()) } else { 0.0 };
        let near = (p.tolerance(), terms);
        assert_near("y", y.clone(), p.dtype, expected, near);
        let fast = Activations::Int8.scope(|| run(x.clone(), s.clone()));
        if p.m > 0 {
            // An input is off by half a step of the largest's 127; a result may cancel, errors do not.
            let size = dense.abs().sum_dim(0).max().into_scalar::<f32>()
                * exact.abs().max().into_scalar::<f32>();
            let number = |t: Tensor<2>| -> Vec<f32> { t.into_data().iter::<f32>().collect() };
            for (fast, y) in number(fast).iter().zip(&number(y.clone())) {
                let most = (1.01 / 254.0 + p.tolerance()) * size;
                prop_assert!((fast - y).abs() <= most, "{fast} is not {y} (to {most})");
            }
        }

        // Through the differentiable ops, which take zero points as numbers.
        let leaf = |t: &Tensor<2>| Tensor::from_inner(t.clone()).require_grad();
        let (x, s) = (leaf(&x), leaf(&s));
        let bias = bias.clone().map(Tensor::from_inner);
        let tracked = Activations::Int8.scope(|| packed(s.clone()).linear(x.clone(), bias).unwrap());
        assert_near("y, tracked", tracked.clone().inner(), p.dtype, y, near);
        if p.m > 0 {
            let grads = tracked.sum().backward();
            prop_assert_eq!(x.grad(&grads).unwrap().dims(), [p.m, p.k()]);
            prop_assert_eq!(s.grad(&grads).unwrap().dims(), [p.groups, p.n]);
        }
    }

    #[test]
    fn dequantize_and_its_gradients(p in problems()) {
        let weight = Weight::random(&p);
        let (s, z) = (weight.s.leaves(), weight.z.leaves());
        let slope = Pair::uniform([p.k(), p.n], -1.0, 1.0, p.scale_dtype);

        let w = weight.affine(&p, s.tested.clone(), z.tested.clone()).dequantize().unwrap();
        let actual = (w.clone() * Tensor::from_inner(slope.tested)).sum().backward();
        let expected_w = weight.dense(&p, s.exact.clone(), z.exact.clone());
        let slope = Tensor::from_inner(slope.exact);
        let expected = (expected_w.clone() * slope.clone()).sum().backward();

        let near = |what, dtype, actual, expected, terms| {
            assert_near(what, actual, dtype, expected, (p.tolerance(), terms));
        };
        assert_close("w", w.inner(), p.scale_dtype, expected_w.inner(), p.tolerance());
        let terms = |factors: Tensor<2>| sizes::of_group_sums(slope.clone() * factors, p.groups);
        let (ds, dz) = (s.tested.grad(&actual).unwrap(), z.tested.grad(&actual).unwrap());
        let by_s = terms(weight.centered(&p, z.exact.clone()));
        near("ds", p.scale_dtype, ds, s.exact.grad(&expected).unwrap(), by_s);
        let by_z = terms(spread(&p, s.exact.clone()));
        near("dz", p.zero_dtype, dz, z.exact.grad(&expected).unwrap(), by_z);
    }

    #[test]
    fn linear_and_its_gradients(p in problems()) {
        let weight = Weight::random(&p);
        let (s, z) = (weight.s.leaves(), weight.z.leaves());
        // Not contiguous, and of three dimensions.
        let x = Pair::uniform([p.k(), p.m], -1.0, 1.0, p.dtype);
        let x = Pair { exact: x.exact.transpose(), tested: x.tested.transpose() }.leaves();
        let bias = Pair::uniform([p.n], -1.0, 1.0, p.bias_dtype).leaves();
        let slope = Pair::uniform([p.m, p.n], -1.0, 1.0, p.dtype);

        let affine = weight.affine(&p, s.tested.clone(), z.tested.clone());
        let input: Tensor<3> = x.tested.clone().unsqueeze_dim(1);
        let y = affine.linear(input, p.bias.then(|| bias.tested.clone())).unwrap();
        let y: Tensor<2> = y.squeeze_dim(1);
        if p.m == 0 {
            prop_assert_eq!(y.dims(), [0, p.n]);
            return Ok(());
        }
        let actual = (y.clone() * Tensor::from_inner(slope.tested)).sum().backward();
        let dense = weight.dense(&p, s.exact.clone(), z.exact.clone());
        let mut expected_y = x.exact.clone().matmul(dense.clone());
        if p.bias {
            expected_y = expected_y + bias.exact.clone().unsqueeze();
        }
        let slope = Tensor::from_inner(slope.exact);
        let expected = (expected_y.clone() * slope.clone()).sum().backward();

        let near = |what, dtype, actual, expected, terms| {
            assert_near(what, actual, dtype, expected, (p.tolerance(), terms));
        };
        let terms = sizes::of_product(x.exact.clone(), dense.clone());
        near("y", p.dtype, y.inner(), expected_y.inner(), terms);
        let (dx, expected_dx) = (x.tested.grad(&actual).unwrap(), x.exact.grad(&expected).unwrap());
        let centered = weight.centered(&p, z.exact.clone());
        let [by_x, by_s, by_z] = sizes::of_gradients(
            x.exact.clone(), slope.clone(), dense, centered, s.exact.clone(),
        );
        near("dx", p.dtype, dx, expected_dx, by_x);
        let (ds, dz) = (s.tested.grad(&actual).unwrap(), z.tested.grad(&actual).unwrap());
        near("ds", p.scale_dtype, ds, s.exact.grad(&expected).unwrap(), by_s);
        near("dz", p.zero_dtype, dz, z.exact.grad(&expected).unwrap(), by_z);
        let dbias = bias.tested.grad(&actual);
        prop_assert_eq!(dbias.is_some(), p.bias);
        if let Some(dbias) = dbias {
            let near = (p.tolerance(), sizes::of_group_sums(slope, 1));
            assert_near("dbias", dbias, p.bias_dtype, bias.exact.grad(&expected).unwrap(), near);
        }
    }

    #[test]
    fn fake_quantize_and_its_gradients(p in problems()) {
        let max = f64::from(p.bits.max_code());
        Device::flex().seed(p.seed);
        let w = Pair::uniform([p.k(), p.n], -1.0, 1.0, p.dtype).leaves();
        // Step sizes below the clamp and zero points outside of the code range among them.
        let shape = [p.groups, p.n];
        let s = Pair::uniform(shape, -0.01, 2.0 / max, p.scale_dtype).leaves();
        let z = Pair::uniform(shape, -1.5, max + 1.5, p.zero_dtype).leaves();
        let slope = Pair::uniform([p.k(), p.n], -1.0, 1.0, p.dtype);

        let out = fake_quantize(w.tested.clone(), s.tested.clone(), z.tested.clone(), p.bits).unwrap();
        let actual = (out.clone() * Tensor::from_inner(slope.tested)).sum().backward();
        let expected_out = straight_through(&p, w.exact.clone(), s.exact.clone(), z.exact.clone());
        let slope = Tensor::from_inner(slope.exact);
        let expected = (expected_out.clone() * slope.clone()).sum().backward();

        let near = |what, dtype, actual, expected, terms| {
            assert_near(what, actual, dtype, expected, (p.tolerance(), terms));
        };
        let (dw, expected_dw) = (w.tested.grad(&actual).unwrap(), w.exact.grad(&expected).unwrap());
        assert_close("w'", out.inner(), p.dtype, expected_out.inner(), p.tolerance());
        assert_close("dw", dw, p.dtype, expected_dw, p.tolerance());
        // A step size's terms are a rounding's rest or a clamped code, a zero point's a step size, times the slope.
        let (ds, dz) = (s.tested.grad(&actual).unwrap(), z.tested.grad(&actual).unwrap());
        let terms = |factors: Tensor<2>| sizes::of_group_sums(slope.clone() * factors, p.groups);
        let rests = terms(slope.ones_like() * 0.5);
        near("ds", p.scale_dtype, ds, s.exact.grad(&expected).unwrap(), rests);
        let by_z = terms(spread(&p, s.exact.clone().clamp(1e-4, 1e4)));
        near("dz", p.zero_dtype, dz, z.exact.grad(&expected).unwrap(), by_z);
    }
}

/// The zero points of a weight in words, as in files.
fn stored_zeros(p: &Problem, weight: &Weight) -> Tensor<2, Int> {
    let values: Vec<i64> = weight.z.exact.clone().into_data().iter::<i64>().collect();
    let words: Vec<i32> = pack_codes(&values, [p.groups, p.n], 1, p.bits, Fields::Dense)
        .unwrap()
        .into_iter()
        .map(|word| word as i32)
        .collect();
    let words = TensorData::new(words, [p.groups, p.bits.words(p.n)]);
    Tensor::from_data(words, (&device(), DType::I32))
}

/// Fake quantization from plain ops, with gradients straight through roundings and the clamps of `s` and `z`.
fn straight_through(p: &Problem, w: Tensor<2>, s: Tensor<2>, z: Tensor<2>) -> Tensor<2> {
    let max = f64::from(p.bits.max_code());
    // In the type that the op computes in, or a ratio may round to another code.
    let [w, s, z] = match p.dtype {
        FloatDType::F64 => [w, s, z].map(|operand| operand.cast(FloatDType::F64)),
        _ => [w, s, z],
    };
    // Exactly `to`: what a clamp gives is far from what it takes, at times.
    let through = |x: Tensor<2>, to: Tensor<2>| to.detach() + (x.clone() - x.detach());
    let s = spread(p, through(s.clone(), s.clamp(1e-4, 1e4)));
    let z = spread(p, through(z.clone(), z.round().clamp(0.0, max)));
    let ratio = w / s.clone();
    let code = through(ratio.clone(), ratio.round()) + z.clone();
    ((code.clamp(0.0, max) - z) * s).cast(FloatDType::F32)
}

/// Finite differences in `s` and `x`, where the op is smooth.
#[test]
fn linear_follows_finite_differences() {
    let p = Problem {
        bits: Bits::Three,
        rows_per_group: 11,
        groups: 2,
        n: 3,
        m: 2,
        bias: false,
        symmetric: false,
        dtype: FloatDType::F32,
        scale_dtype: FloatDType::F32,
        zero_dtype: FloatDType::F32,
        bias_dtype: FloatDType::F32,
        seed: 3,
    };
    let weight = Weight::random(&p);
    let x = Pair::uniform([p.m, p.k()], -1.0, 1.0, p.dtype).tested;
    let (s, z) = (weight.s.tested.clone(), weight.z.tested.clone());
    let loss = |x: Tensor<2>, s: Tensor<2>| {
        let z = if s.is_autodiff() {
            Tensor::from_inner(z.clone())
        } else {
            z.clone()
        };
        let affine = weight.affine(&p, s, z);
        affine.linear(x, None).unwrap().square().sum()
    };
    let leaf = |t: &Tensor<2>| Tensor::from_inner(t.clone()).require_grad();
    let (leaf_x, leaf_s) = (leaf(&x), leaf(&s));
    let grads = loss(leaf_x.clone(), leaf_s.clone()).backward();

    let values = |t: Tensor<2>| -> Vec<f32> { t.into_data().iter::<f32>().collect() };
    let check = |what: &str, at: &Tensor<2>, grad: Tensor<2>, f: &dyn Fn(Tensor<2>) -> f64| {
        let (shape, device) = (at.dims(), at.device());
        let (at, grad) = (values(at.clone()), values(grad));
        let largest = grad.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for i in 0..at.len() {
            let moved = |step: f32| {
                let mut values = at.clone();
                values[i] += step;
                let data = TensorData::new(values, shape);
                f(Tensor::from_data(data, &device))
            };
            let step = 1e-2f32;
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            let error = (slope - f64::from(grad[i])).abs();
            assert!(
                error < 2e-3 * f64::from(largest),
                "{what} {i}: {slope} is not {}",
                grad[i]
            );
        }
    };
    let number = |t: Tensor<1>| t.into_scalar::<f64>();
    check("x", &x, leaf_x.grad(&grads).unwrap(), &|x| {
        number(loss(x, s.clone()))
    });
    check("s", &s, leaf_s.grad(&grads).unwrap(), &|s| {
        number(loss(x.clone(), s))
    });
}
