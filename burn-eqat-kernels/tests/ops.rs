//! Every op, forward and backward, against plain Burn ops that are differentiated by themselves.
//!
//! The suite is written over a device: Flex, or the one that `EQAT_TEST_DEVICE` names (`wgpu`, `cpu`)
//! where its cargo feature is on.

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use burn_eqat_kernels::{Bits, dequantize, fake_quantize, pack, quant_linear, unpack};
use proptest::prelude::*;

fn device() -> Device {
    match std::env::var("EQAT_TEST_DEVICE").as_deref() {
        #[cfg(feature = "wgpu")]
        Ok("wgpu") => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "cpu")]
        Ok("cpu") => Device::cpu(),
        Ok("flex") | Err(_) => Device::flex(),
        Ok(other) => panic!("EQAT_TEST_DEVICE is {other:?}, which is not compiled in"),
    }
}

/// A problem of odd shape.
#[derive(Clone, Debug)]
struct Problem {
    bits: Bits,
    rows_per_group: usize,
    groups: usize,
    n: usize,
    m: usize,
    bias: bool,
    seed: u64,
}

impl Problem {
    fn k(&self) -> usize {
        self.rows_per_group * self.groups
    }
}

fn problem() -> impl Strategy<Value = Problem> {
    (
        0usize..4,
        1usize..40,
        1usize..4,
        1usize..20,
        0usize..6,
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(
            |(width, rows_per_group, groups, n, m, bias, seed)| Problem {
                bits: Bits::ALL[width],
                rows_per_group,
                groups,
                n,
                m,
                bias,
                seed,
            },
        )
}

struct Operands {
    codes: Tensor<2, Int>,
    words: Tensor<2, Int>,
    s: Tensor<2>,
    z: Tensor<2>,
}

impl Operands {
    fn random(p: &Problem, device: &Device) -> Self {
        device.seed(p.seed);
        let max = f64::from(p.bits.max_code());
        let random = |shape: [usize; 2], low, high| {
            Tensor::<2>::random(shape, Distribution::Uniform(low, high), device)
        };
        let codes = random([p.k(), p.n], -0.49, max + 0.49)
            .round()
            .clamp(0.0, max)
            .int();
        Operands {
            words: pack(codes.clone(), p.bits).unwrap(),
            codes,
            s: random([p.groups, p.n], 0.01, 0.2),
            z: random([p.groups, p.n], 0.0, max).round(),
        }
    }

    /// `(q - z) * s` from plain ops.
    fn dense(&self, p: &Problem, s: Tensor<2>, z: Tensor<2>) -> Tensor<2> {
        let q = self.codes.clone().float();
        let q = match s.is_autodiff() {
            true => Tensor::from_inner(q),
            false => q,
        };
        let q: Tensor<3> = q.reshape([p.groups, p.rows_per_group, p.n]);
        let w = (q - z.unsqueeze_dim::<3>(1)) * s.unsqueeze_dim::<3>(1);
        w.reshape([p.k(), p.n])
    }
}

fn leaf<const D: usize>(t: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(t.clone()).require_grad()
}

/// Largest difference, as a part of the largest value.
fn assert_close<const D: usize>(what: &str, actual: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let actual: Vec<f32> = actual.into_data().iter::<f32>().collect();
    let expected: Vec<f32> = expected.into_data().iter::<f32>().collect();
    let scale = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (a, e) in actual.iter().zip(&expected) {
        assert!(
            (a - e).abs() <= 2e-5 * scale,
            "{what}: {a} is not {e} (largest {scale})"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn unpack_gives_the_codes(p in problem()) {
        let o = Operands::random(&p, &device());
        unpack(o.words, p.bits, p.k()).unwrap().into_data().assert_eq(&o.codes.into_data(), false);
    }

    #[test]
    fn dequantize_and_its_gradients(p in problem()) {
        let o = Operands::random(&p, &device());
        let weight = Tensor::<2>::random([p.k(), p.n], Distribution::Default, &device());
        let run = |fast: bool| {
            let (s, z) = (leaf(&o.s), leaf(&o.z));
            let w = match fast {
                true => dequantize(o.words.clone(), s.clone(), z.clone(), p.bits, p.k()).unwrap(),
                false => o.dense(&p, s.clone(), z.clone()),
            };
            let grads = (w.clone() * Tensor::from_inner(weight.clone())).sum().backward();
            (w.inner(), s.grad(&grads).unwrap(), z.grad(&grads).unwrap())
        };
        let (actual, expected) = (run(true), run(false));
        assert_close("w", actual.0, expected.0);
        assert_close("ds", actual.1, expected.1);
        assert_close("dz", actual.2, expected.2);
    }

    #[test]
    fn quant_linear_and_its_gradients(p in problem()) {
        let device = device();
        let o = Operands::random(&p, &device);
        let x = Tensor::<2>::random([p.k(), p.m], Distribution::Normal(0.0, 1.0), &device);
        let x = x.transpose(); // not contiguous
        let bias = Tensor::<1>::random([p.n], Distribution::Default, &device);
        let weight = Tensor::<2>::random([p.m, p.n], Distribution::Default, &device);
        let run = |fast: bool| {
            let (x, s, z, bias) = (leaf(&x), leaf(&o.s), leaf(&o.z), leaf(&bias));
            let given = p.bias.then(|| bias.clone());
            let y = match fast {
                true => quant_linear(
                    x.clone(), o.words.clone(), s.clone(), z.clone(), given, p.bits,
                ).unwrap(),
                false => {
                    let y = x.clone().matmul(o.dense(&p, s.clone(), z.clone()));
                    match given {
                        Some(bias) => y + bias.unsqueeze(),
                        None => y,
                    }
                }
            };
            let grads = (y.clone() * Tensor::from_inner(weight.clone())).sum().backward();
            let grads = (x.grad(&grads), s.grad(&grads), z.grad(&grads), bias.grad(&grads));
            (y.inner(), grads)
        };
        if p.m == 0 {
            let y = quant_linear(x, o.words, o.s, o.z, None, p.bits).unwrap();
            prop_assert_eq!(y.dims(), [0, p.n]);
            return Ok(());
        }
        let ((y, actual), (expected_y, expected)) = (run(true), run(false));
        assert_close("y", y, expected_y);
        assert_close("dx", actual.0.unwrap(), expected.0.unwrap());
        assert_close("ds", actual.1.unwrap(), expected.1.unwrap());
        assert_close("dz", actual.2.unwrap(), expected.2.unwrap());
        prop_assert_eq!(actual.3.is_some(), p.bias);
        if p.bias {
            assert_close("dbias", actual.3.unwrap(), expected.3.unwrap());
        }
    }

    #[test]
    fn fake_quantize_and_its_gradients(p in problem()) {
        let device = device();
        device.seed(p.seed);
        let max = f64::from(p.bits.max_code());
        let random = |shape: [usize; 2], low, high| {
            Tensor::<2>::random(shape, Distribution::Uniform(low, high), &device)
        };
        let w = random([p.k(), p.n], -1.0, 1.0);
        // Step sizes below the clamp and zero points outside of the code range among them.
        let s = random([p.groups, p.n], -0.01, 2.0 / max);
        let z = random([p.groups, p.n], -1.5, max + 1.5);
        let weight = random([p.k(), p.n], -1.0, 1.0);
        let through = |x: Tensor<2>, to: Tensor<2>| x.clone() + (to - x).detach();
        let run = |fast: bool| {
            let (w, s, z) = (leaf(&w), leaf(&s), leaf(&z));
            let out = match fast {
                true => fake_quantize(w.clone(), s.clone(), z.clone(), p.bits).unwrap(),
                false => {
                    let clamped = through(s.clone(), s.clone().clamp(1e-4, 1e4));
                    let zero = through(z.clone(), z.clone().round().clamp(0.0, max));
                    let spread = |t: Tensor<2>| -> Tensor<2> {
                        t.unsqueeze_dim::<3>(1)
                            .expand([p.groups, p.rows_per_group, p.n])
                            .reshape([p.k(), p.n])
                    };
                    let (s, z) = (spread(clamped), spread(zero));
                    let ratio = w.clone() / s.clone();
                    let code = through(ratio.clone(), ratio.round()) + z.clone();
                    (code.clamp(0.0, max) - z) * s
                }
            };
            let grads = (out.clone() * Tensor::from_inner(weight.clone())).sum().backward();
            let grads = (w.grad(&grads), s.grad(&grads), z.grad(&grads));
            (out.inner(), grads.0.unwrap(), grads.1.unwrap(), grads.2.unwrap())
        };
        let (actual, expected) = (run(true), run(false));
        assert_close("w'", actual.0, expected.0);
        assert_close("dw", actual.1, expected.1);
        assert_close("ds", actual.2, expected.2);
        assert_close("dz", actual.3, expected.3);
    }
}

/// Finite differences in `s` and `x`, where the op is smooth.
#[test]
fn quant_linear_follows_finite_differences() {
    let p = Problem {
        bits: Bits::Three,
        rows_per_group: 11,
        groups: 2,
        n: 3,
        m: 2,
        bias: false,
        seed: 3,
    };
    let device = device();
    let o = Operands::random(&p, &device);
    let x = Tensor::<2>::random([p.m, p.k()], Distribution::Normal(0.0, 1.0), &device);
    let loss = |x: Tensor<2>, s: Tensor<2>| {
        let z = match s.is_autodiff() {
            true => Tensor::from_inner(o.z.clone()),
            false => o.z.clone(),
        };
        quant_linear(x, o.words.clone(), s, z, None, p.bits)
            .unwrap()
            .square()
            .sum()
    };
    let (tx, ts) = (leaf(&x), leaf(&o.s));
    let grads = loss(tx.clone(), ts.clone()).backward();
    let check = |what: &str, at: &Tensor<2>, grad: Tensor<2>, f: &dyn Fn(Tensor<2>) -> f64| {
        let shape = at.dims();
        let values: Vec<f32> = at.clone().into_data().iter::<f32>().collect();
        let grad: Vec<f32> = grad.into_data().iter::<f32>().collect();
        let largest = grad.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for i in 0..values.len() {
            let moved = |step: f32| {
                let mut values = values.clone();
                values[i] += step;
                f(Tensor::from_data(TensorData::new(values, shape), &device))
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
    let to_f64 = |t: Tensor<1>| t.into_scalar::<f64>();
    check("x", &x, tx.grad(&grads).unwrap(), &|x| {
        to_f64(loss(x, o.s.clone()))
    });
    check("s", &o.s, ts.grad(&grads).unwrap(), &|s| {
        to_f64(loss(x.clone(), s))
    });
}

#[test]
fn wrong_shapes_are_refused() {
    let device = device();
    let zeros = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &device);
    let message =
        |result: Result<Tensor<2>, burn_eqat_kernels::ShapeError>| result.unwrap_err().to_string();
    let error = message(fake_quantize(
        zeros([10, 4]),
        zeros([3, 4]),
        zeros([3, 4]),
        Bits::Two,
    ));
    assert_eq!(
        error,
        "fake_quantize: 10 input rows do not divide into 3 groups"
    );
    let error = message(fake_quantize(
        zeros([9, 4]),
        zeros([3, 5]),
        zeros([3, 5]),
        Bits::Two,
    ));
    assert!(
        error.contains("s has shape [3, 5], expected [3, 4]"),
        "{error}"
    );

    let words = Tensor::<2, Int>::zeros([2, 4], &device);
    let error = message(dequantize(
        words.clone(),
        zeros([1, 4]),
        zeros([1, 4]),
        Bits::Two,
        40,
    ));
    assert!(
        error.contains("words has shape [2, 4], expected [3, 4]"),
        "{error}"
    );
    let x = zeros([3, 32]);
    let bias = Some(Tensor::<1>::zeros([5], &device));
    let error = message(quant_linear(
        x,
        words,
        zeros([1, 4]),
        zeros([1, 4]),
        bias,
        Bits::Two,
    ));
    assert!(
        error.contains("bias has shape [5], expected [4]"),
        "{error}"
    );
    assert!(unpack(Tensor::<2, Int>::zeros([2, 4], &device), Bits::Two, 33).is_err());
}
