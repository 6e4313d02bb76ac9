//! Every strategy of every op, at every level of this CPU, against the portable bodies.
//!
//! The suite in `tests/` runs the ops, which select one strategy at one level. These tests run all of them, also on
//! problems larger than a tile.

use super::fake_quantize::{Gradients, Quantizer};
use super::level::Level;
use super::matrix::{Matrix, Out, Products};
use super::product::Product;
use super::select::{self, strategies};
use super::tensors::Floats;
use super::weight::{Weight, Zeros};
use super::{dequantize, matmul, matvec};
use crate::Activations::{Exact, Int8};
use crate::problem::Problem;
use crate::{Activations, Bits, Fields, pack_codes, portable, sizes};
use burn::backend::Flex;
use burn::tensor::{DType, Device, Shape, Tensor, TensorData, bf16};
use burn_flex::FlexTensor;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Operands of a problem on the host.
struct Case {
    problem: Problem,
    words: Vec<u32>,
    s: Vec<f32>,
    z: Vec<f32>,
    zero_words: Vec<u32>,
    x: Vec<f32>,
    grad: Vec<f32>,
}

/// Prints only the sizes.
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.problem.fmt(f)
    }
}

pub(super) fn floats(random: &mut StdRng, len: usize, low: f32, high: f32) -> Vec<f32> {
    (0..len).map(|_| random.random_range(low..high)).collect()
}

pub(super) fn tensor(values: &[f32], shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values.to_vec(), shape.into()))
}

pub(super) fn values(tensor: FlexTensor) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn rounded_to_bf16(values: &[f32]) -> Vec<f32> {
    let rounded = values.iter().map(|value| bf16::from_f32(*value).to_f32());
    rounded.collect()
}

/// The types of products at a level, each with its tolerance: that of f32, or two roundings to bf16.
fn products(level: Level, tolerance: f32) -> Vec<(Products, f32)> {
    let mut all = vec![(Products::F32, tolerance)];
    let half = Products::of(level, DType::BF16);
    if half != Products::F32 {
        all.push((half, 1.0 / 32.0));
    }
    all
}

impl Case {
    fn new(problem: Problem, seed: u64) -> Self {
        let Problem {
            m,
            k,
            n,
            groups,
            bits,
        } = problem;
        let mut random = StdRng::seed_from_u64(seed);
        let max = i64::from(bits.max_code());
        let mut codes =
            |len: usize| -> Vec<i64> { (0..len).map(|_| random.random_range(0..=max)).collect() };
        let (q, z) = (codes(k * n), codes(groups * n));
        Case {
            problem,
            words: pack_codes(&q, [k, n], 0, bits, Fields::Dense).unwrap(),
            zero_words: pack_codes(&z, [groups, n], 1, bits, Fields::Dense).unwrap(),
            z: z.iter().map(|z| *z as f32).collect(),
            s: floats(&mut random, groups * n, 0.01, 0.2),
            x: floats(&mut random, m * k, -1.0, 1.0),
            grad: floats(&mut random, m * n, -1.0, 1.0),
        }
    }

    /// The weight with zero points as numbers, and in packed words.
    fn weights(&self) -> [Weight<'_>; 2] {
        [Zeros::Numbers(&self.z), Zeros::Packed(&self.zero_words)].map(|zero_points| Weight {
            problem: self.problem,
            codes: &self.words,
            scales: &self.s,
            zero_points,
        })
    }

    /// What each column's products could be at most, `max |x| * sum |w|`: results may cancel to less,
    /// errors do not.
    fn sizes(&self) -> Vec<f32> {
        let Problem { k, n, bits, .. } = self.problem;
        let w = portable::dequantize::<Flex>(self.words(), self.s(), self.z(), bits, k);
        let w = values(w);
        let largest = self.x.iter().fold(0f32, |max, x| max.max(x.abs()));
        let column = |j| w.iter().skip(j).step_by(n).map(|w| w.abs()).sum::<f32>();
        (0..n).map(|j| 1e-6 + largest * column(j)).collect()
    }

    /// The sizes of the gradients by input, scales and zero points, by their terms.
    fn gradient_sizes(&self) -> [f32; 3] {
        let Problem { k, n, bits, .. } = self.problem;
        let dense = |s| {
            let w = portable::dequantize::<Flex>(self.words(), s, self.z(), bits, k);
            host(&values(w), [k, n])
        };
        let s = host(&self.s, [self.problem.groups, n]);
        let x = host(&self.x, [self.problem.m, k]);
        let grad = host(&self.grad, [self.problem.m, n]);
        let centered = dense(tensor(&vec![1.0; self.s.len()], [self.problem.groups, n]));
        sizes::of_gradients(x, grad, dense(self.s()), centered, s)
    }

    fn words(&self) -> FlexTensor {
        let words: Vec<i32> = self.words.iter().map(|word| *word as i32).collect();
        let rows = self.problem.bits.words(self.problem.k);
        FlexTensor::from_data(TensorData::new(words, [rows, self.problem.n]))
    }

    fn s(&self) -> FlexTensor {
        tensor(&self.s, [self.problem.groups, self.problem.n])
    }

    fn z(&self) -> FlexTensor {
        tensor(&self.z, [self.problem.groups, self.problem.n])
    }

    fn x(&self) -> FlexTensor {
        tensor(&self.x, [self.problem.m, self.problem.k])
    }

    fn grad(&self) -> FlexTensor {
        tensor(&self.grad, [self.problem.m, self.problem.n])
    }
}

/// On Flex, for what is computed beside the tests.
fn host(values: &[f32], shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
}

/// Problems of every kind; `sizes` of rows per group, groups, columns and rows of the input.
fn case() -> impl Strategy<Value = Case> {
    let small = (
        prop::sample::select(vec![1usize, 5, 16, 24, 32, 64, 96, 128]),
        1usize..5,
        prop::sample::select(vec![1usize, 7, 8, 17, 33, 70, 130]),
        1usize..20,
    );
    // Larger than tiles, and worth threads.
    let large = (
        prop::sample::select(vec![64usize, 160, 330, 600]),
        1usize..4,
        prop::sample::select(vec![129usize, 320, 515]),
        prop::sample::select(vec![1usize, 2, 3, 8, 9, 70, 150]),
    );
    (
        prop::sample::select(Bits::ALL.to_vec()),
        prop_oneof![3 => small.boxed(), 1 => large.boxed()],
        any::<u64>(),
    )
        .prop_map(|(bits, (group, groups, n, m), seed)| {
            let k = group * groups;
            let problem = Problem {
                m,
                k,
                n,
                groups,
                bits,
            };
            Case::new(problem, seed)
        })
}

/// Differences are at most `most`.
fn assert_near(what: &str, level: Level, actual: &[f32], expected: &[f32], most: f32) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let (error, level) = ((a - e).abs(), level.name());
        assert!(
            error <= most,
            "{what} {i} on {level}: {a} is not {e} (to {most})"
        );
    }
}

/// Bits must agree, NaN with NaN.
fn assert_same(what: &str, level: Level, actual: &[f32], expected: &[f32]) {
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let same = a == e || (a.is_nan() && e.is_nan());
        assert!(same, "{what} {i} on {}: {a} is not {e}", level.name());
    }
}

/// Digits of the input where integer dot products are among the strategies.
fn digits(level: Level, problem: &Problem, activations: Activations) -> Option<usize> {
    strategies(level, problem, false, activations).find_map(|strategy| match strategy {
        select::Strategy::Dots { digits } => Some(digits),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn matmuls_agree(case in case()) {
        let Problem { m, n, bits, .. } = case.problem;
        let expected = values(portable::quant_linear::<Flex>(
            case.x(), case.words(), case.s(), case.z(), bits,
        ));
        let sizes = case.sizes();
        let close = |what, level: Level, y: &[f32], tolerance: f32| {
            for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
                let (error, most) = ((y - e).abs(), tolerance * sizes[i % n]);
                let level = level.name();
                assert!(error <= most, "{what} {i} on {level}: {y} is not {e} (to {most})");
            }
        };
        #[cfg(target_arch = "x86_64")]
        let copy = super::lookup::LookupWeight::new(&case.weights()[1]);
        for level in Level::available() {
            // A step of a table of 8 bits is 6/255 of the largest input, and two entries with their average are
            // off by one and a half for four rows; centered codes are about one in size.
            #[cfg(target_arch = "x86_64")]
            for (activations, tolerance) in [(Exact, 1e-6), (Int8, 1.0 / 64.0)] {
                let Some(copy) = copy.as_ref().filter(|_| m <= 4 && level.dots()) else {
                    continue;
                };
                let mut y = vec![0.0; m * n];
                assert!(copy.forward(level, activations, &case.x, &mut y));
                close("a matmul by lookups", level, &y, tolerance);
            }
            for weight in case.weights() {
                for (products, tolerance) in products(level, 1e-6) {
                    let mut y = vec![0.0; m * n];
                    let x = Matrix::rows(&case.x, case.problem.k).into();
                    let out = Out::sums(y.as_mut_ptr(), n);
                    // SAFETY: the result has this size.
                    unsafe { matmul::forward(level, products, &weight, x, out, true) };
                    close("a matmul by tiles", level, &y, tolerance);
                    let mut product = Product::new(
                        products, [m, n], DType::BF16, matmul::forward_passes(products, &case.problem),
                    );
                    // SAFETY: it has this size, and the sums that it needs.
                    let rounded = unsafe {
                        matmul::forward(level, products, &weight, x, product.out(), false);
                        values(product.finish())
                    };
                    assert_same("a matmul by tiles in bf16", level, &rounded, &rounded_to_bf16(&y));
                }
                if case.problem.aligned() && m <= 8 {
                    let mut y = vec![0.0; m * n];
                    matvec::forward(level, &weight, &case.x, &mut y);
                    close("a matmul of few rows", level, &y, 1e-6);
                }
                // With 8 bits, an input is off by half a step of the largest's 127.
                #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
                for (activations, tolerance) in [(Exact, 1e-6), (Int8, 1.01 / 254.0)] {
                    use super::dot;
                    let Some(digits) = digits(level, &case.problem, activations) else {
                        continue;
                    };
                    let mut y = vec![0.0; m * n];
                    assert!(dot::forward(level, &weight, digits, &case.x, &mut y));
                    close("a matmul in integers", level, &y, tolerance);
                    let mut y = vec![0.0; m * n];
                    assert!(dot::forward_emulated(level, &weight, digits, &case.x, &mut y));
                    close("a matmul in integers of wider vectors", level, &y, tolerance);
                }
            }
        }
    }

    #[test]
    fn backwards_agree(case in case()) {
        let Problem { m, k, n, groups, bits } = case.problem;
        let (words, s, z) = (case.words(), case.s(), case.z());
        let dx = portable::quant_linear_backward_input::<Flex>(
            words.clone(), s.clone(), z.clone(), case.grad(), bits, k,
        );
        let (ds, dz) = portable::quant_linear_backward_scale::<Flex>(
            case.x(), words, s, z, case.grad(), bits,
        );
        let (dx, ds, dz) = (values(dx), values(ds), values(dz));
        let [dx_size, ds_size, dz_size] = case.gradient_sizes();
        for level in Level::available() {
            for weight in case.weights() {
                for (products, tolerance) in products(level, 3e-5) {
                    let mut actual = vec![0.0; m * k];
                    let (x, grad) = (Matrix::rows(&case.x, k).into(), Matrix::rows(&case.grad, n).into());
                    let out = Out::sums(actual.as_mut_ptr(), k);
                    // SAFETY: the result has this size.
                    unsafe { matmul::input(level, products, &weight, grad, out) };
                    assert_near("dx", level, &actual, &dx, tolerance * dx_size);
                    let mut product = Product::new(
                        products, [m, k], DType::BF16, matmul::input_passes(products, &case.problem),
                    );
                    // SAFETY: it has this size, and the sums that it needs.
                    let rounded = unsafe {
                        matmul::input(level, products, &weight, grad, product.out());
                        values(product.finish())
                    };
                    assert_same("dx in bf16", level, &rounded, &rounded_to_bf16(&actual));
                    let (mut s, mut z) = (vec![0.0; groups * n], vec![0.0; groups * n]);
                    matmul::scale(level, products, &weight, x, grad, &mut s, &mut z);
                    assert_near("ds", level, &s, &ds, tolerance * ds_size);
                    assert_near("dz", level, &z, &dz, tolerance * dz_size);
                }
            }
        }
    }

    #[test]
    fn the_dense_weight_and_its_backward_agree(case in case()) {
        let Problem { k, n, groups, bits, .. } = case.problem;
        let mut random = StdRng::seed_from_u64(7);
        let grad = floats(&mut random, k * n, -1.0, 1.0);
        let (words, s, z) = (case.words(), case.s(), case.z());
        let w = portable::dequantize::<Flex>(words.clone(), s.clone(), z.clone(), bits, k);
        let (ds, dz) =
            portable::dequantize_backward::<Flex>(words, s, z, tensor(&grad, [k, n]), bits, k);
        let (w, ds, dz) = (values(w), values(ds), values(dz));
        // A step size's terms are up to a code, a zero point's up to a step size, times the gradient.
        let terms = |factor: f32| sizes::of_group_sums(host(&grad, [k, n]) * factor, groups);
        let (by_scales, by_zeros) = (terms(bits.max_code() as f32), terms(0.2));
        for level in Level::available() {
            for weight in case.weights() {
                let mut actual = vec![0.0; k * n];
                dequantize::dequantize(level, &weight, &mut actual);
                assert_same("w", level, &actual, &w);
                let (mut s, mut z) = (vec![0.0; groups * n], vec![0.0; groups * n]);
                dequantize::dequantize_backward(level, &weight, &grad, &mut s, &mut z);
                assert_near("ds", level, &s, &ds, 2e-5 * by_scales);
                assert_near("dz", level, &z, &dz, 2e-5 * by_zeros);
            }
        }
    }

    #[test]
    fn fake_quantization_agrees(case in case(), broken: bool) {
        let Problem { k, n, groups, bits, .. } = case.problem;
        let mut random = StdRng::seed_from_u64(9);
        let max = bits.max_code() as f32;
        let mut w = floats(&mut random, k * n, -1.0, 1.0);
        // Step sizes below the clamp and zero points outside of the code range among them.
        let s = floats(&mut random, groups * n, -0.01, 2.0 / max);
        let z = floats(&mut random, groups * n, -1.5, max + 1.5);
        let grad = floats(&mut random, k * n, -1.0, 1.0);
        if broken {
            w[k * n / 2] = f32::NAN;
        }
        let tensors = || (tensor(&w, [k, n]), tensor(&s, [groups, n]), tensor(&z, [groups, n]));
        let (tw, ts, tz) = tensors();
        let out = values(portable::fake_quantize::<Flex>(tw, ts, tz, bits));
        let (tw, ts, tz) = tensors();
        let (dw, ds, dz) = portable::fake_quantize_backward::<Flex>(
            tw, ts, tz, tensor(&grad, [k, n]), bits,
        );
        let (dw, ds, dz) = (values(dw), values(ds), values(dz));
        // A step size's terms are up to a code, a zero point's up to a step size, times the gradient.
        let terms = |factor: f32| sizes::of_group_sums(host(&grad, [k, n]) * factor, groups);
        let (by_scales, by_zeros) = (terms(max), terms(2.0 / max));
        let quantizer = Quantizer { weight: &w, scales: &s, zero_points: &z, groups, n, max_code: max };
        for level in Level::available() {
            let mut actual = vec![0.0; k * n];
            quantizer.forward(level, &mut actual);
            assert_same("w'", level, &actual, &out);
            if broken {
                continue;
            }
            let (mut aw, mut as_, mut az) =
                (vec![0.0; k * n], vec![0.0; groups * n], vec![0.0; groups * n]);
            quantizer.backward(level, Gradients {
                out: &grad, weight: &mut aw, scales: &mut as_, zero_points: &mut az,
            });
            assert_same("dw", level, &aw, &dw);
            assert_near("ds", level, &as_, &ds, 2e-5 * by_scales);
            assert_near("dz", level, &az, &dz, 2e-5 * by_zeros);
        }
    }
}

/// A row that every strategy supports.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ONE_ROW: Problem = Problem {
    m: 1,
    k: 64,
    n: 16,
    groups: 1,
    bits: Bits::Two,
};

/// Sums of two inputs that overflow have no table, though each input is finite.
#[cfg(target_arch = "x86_64")]
#[test]
fn inputs_whose_sums_overflow_are_not_looked_up() {
    let mut case = Case::new(ONE_ROW, 1);
    case.x[..2].fill(2e38);
    let copy = super::lookup::LookupWeight::new(&case.weights()[1]).unwrap();
    for level in Level::available().filter(|level| level.dots()) {
        assert!(!copy.forward(level, Exact, &case.x, &mut [0.0; 16]));
    }
}

/// Integer products refuse numbers without digits, and NaN stays NaN.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn what_is_not_finite_stays_so() {
    for broken in [f32::NAN, f32::INFINITY, 1e-35] {
        let mut case = Case::new(ONE_ROW, 1);
        case.x.fill(0.0);
        case.x[3] = broken;
        let weight = case.weights()[1];
        for level in Level::available() {
            let mut y = vec![0.0; 16];
            if let Some(digits) = digits(level, &ONE_ROW, Exact) {
                assert!(!super::dot::forward(
                    level, &weight, digits, &case.x, &mut y
                ));
                assert!(y.iter().all(|y| *y == 0.0));
            }
            #[cfg(target_arch = "x86_64")]
            if level.dots() {
                let copy = super::lookup::LookupWeight::new(&weight).unwrap();
                assert!(!copy.forward(level, Exact, &case.x, &mut y));
                assert!(y.iter().all(|y| *y == 0.0));
            }
            let x = Floats::new(tensor(&case.x, [ONE_ROW.m, ONE_ROW.k]));
            super::linear::forward(level, Products::F32, &weight, Exact, &x, &mut y);
            let finite = y.iter().all(|y| y.is_finite());
            assert_eq!(finite, broken.is_finite());
        }
    }
}

#[test]
fn a_panic_in_a_task_reaches_the_caller() {
    let caught = std::panic::catch_unwind(|| {
        super::parallel::each(8, 4, |at| assert!(at != 5, "a test"));
    });
    assert!(caught.is_err());
}
