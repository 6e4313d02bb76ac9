//! Random problems and their operands, on the tested device and on Flex.

use crate::{device, multiplies_in_tf32};
use burn::tensor::{DType, Device, Distribution, FloatDType, Int, Tensor};
use burn_eqat_kernels::{AffineWeight, Bits, pack, supports};
use proptest::prelude::*;

/// A problem, often of odd shape.
#[derive(Clone, Debug)]
pub struct Problem {
    pub bits: Bits,
    pub rows_per_group: usize,
    pub groups: usize,
    pub n: usize,
    pub m: usize,
    pub bias: bool,
    pub symmetric: bool,
    /// The type of inputs, weights and outputs.
    pub dtype: FloatDType,
    /// The type of step sizes.
    pub scale_dtype: FloatDType,
    /// The types of zero points and of the bias, which follow those of step sizes and inputs.
    pub zero_dtype: FloatDType,
    pub bias_dtype: FloatDType,
    pub seed: u64,
}

impl Problem {
    /// Rows of the weight.
    pub fn k(&self) -> usize {
        self.rows_per_group * self.groups
    }

    /// The allowed error of a result, as a part of the largest value or of the size of its terms: that of rounding
    /// operands and results to their types.
    pub fn tolerance(&self) -> f32 {
        let of = |dtype| match dtype {
            FloatDType::F16 => 2e-3,
            FloatDType::BF16 => 1.5e-2,
            FloatDType::F32 if multiplies_in_tf32() => 2e-3,
            _ => 3e-5,
        };
        [
            self.dtype,
            self.scale_dtype,
            self.zero_dtype,
            self.bias_dtype,
        ]
        .map(of)
        .into_iter()
        .fold(0.0, f32::max)
    }
}

/// The float types that the tested device supports.
pub fn types() -> Vec<FloatDType> {
    [
        (FloatDType::F32, DType::F32),
        (FloatDType::F16, DType::F16),
        (FloatDType::BF16, DType::BF16),
        (FloatDType::F64, DType::F64),
    ]
    .into_iter()
    .filter(|(_, dtype)| supports(&device(), *dtype))
    .map(|(float, _)| float)
    .collect()
}

/// Problems of few and many rows, of one and many columns, and of groups that blocks of words do and do not
/// divide. Sizes are drawn from lists, because a device compiles kernels for some sizes.
pub fn problems() -> impl Strategy<Value = Problem> {
    let rows_per_group = vec![1usize, 5, 13, 16, 24, 32, 64, 96, 128];
    let columns = vec![1usize, 2, 5, 12, 19, 32, 70];
    let rows = vec![0usize, 1, 2, 3, 7, 9, 33, 130];
    (
        prop::sample::select(Bits::ALL.to_vec()),
        prop::sample::select(rows_per_group),
        1usize..4,
        prop::sample::select(columns),
        prop::sample::select(rows),
        any::<[bool; 2]>(),
        prop::collection::vec(prop::sample::select(types()), 4),
        any::<u64>(),
    )
        .prop_map(
            |(bits, rows_per_group, groups, n, m, [bias, symmetric], types, seed)| Problem {
                bits,
                rows_per_group,
                groups,
                n,
                m,
                bias,
                symmetric,
                dtype: types[0],
                scale_dtype: types[1],
                zero_dtype: types[2],
                bias_dtype: types[3],
                seed,
            },
        )
}

/// The number of problems of each test.
pub fn config() -> ProptestConfig {
    let cases = match std::env::var("PROPTEST_CASES") {
        Ok(_) => ProptestConfig::default().cases,
        Err(_) => 48,
    };
    ProptestConfig {
        cases,
        // Shrinking compiles kernels: a few steps are enough to see what fails.
        max_shrink_iters: 32,
        ..ProptestConfig::default()
    }
}

/// A tensor rounded to the type of an operand, on Flex in f32 and on the tested device.
#[derive(Clone)]
pub struct Pair<const D: usize> {
    pub exact: Tensor<D>,
    pub tested: Tensor<D>,
}

impl<const D: usize> Pair<D> {
    pub fn new(exact: Tensor<D>, dtype: FloatDType) -> Self {
        let rounded = exact.cast(dtype);
        let tested = to_device(rounded.clone(), &device());
        Pair {
            exact: rounded.cast(FloatDType::F32),
            tested,
        }
    }

    pub fn uniform(shape: [usize; D], low: f64, high: f64, dtype: FloatDType) -> Self {
        let values = Tensor::random(shape, Distribution::Uniform(low, high), &Device::flex());
        Self::new(values, dtype)
    }

    pub fn rounded(shape: [usize; D], low: f64, high: f64, dtype: FloatDType) -> Self {
        let values = Tensor::random(shape, Distribution::Uniform(low, high), &Device::flex());
        Self::new(values.round(), dtype)
    }

    /// Leaves of two graphs.
    pub fn leaves(&self) -> Self {
        Pair {
            exact: Tensor::from_inner(self.exact.clone()).require_grad(),
            tested: Tensor::from_inner(self.tested.clone()).require_grad(),
        }
    }
}

fn to_device<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    let dtype = tensor.dtype();
    Tensor::from_data(tensor.into_data(), (device, dtype))
}

/// A packed weight.
pub struct Weight {
    pub codes: Tensor<2, Int>,
    /// On the tested device.
    pub words: Tensor<2, Int>,
    pub s: Pair<2>,
    pub z: Pair<2>,
}

impl Weight {
    pub fn random(p: &Problem) -> Self {
        Device::flex().seed(p.seed);
        let max = f64::from(p.bits.max_code());
        let shape = [p.groups, p.n];
        let codes = Tensor::<2>::random(
            [p.k(), p.n],
            Distribution::Uniform(-0.49, max + 0.49),
            &Device::flex(),
        );
        let codes = codes.round().clamp(0.0, max).int();
        let words = pack(codes.clone(), p.bits).unwrap();
        let middle = (max + 1.0) / 2.0;
        let (low, high) = if p.symmetric {
            (middle, middle + 0.25)
        } else {
            (0.0, max)
        };
        Weight {
            codes,
            words: Tensor::from_data(words.into_data(), (&device(), DType::I32)),
            s: Pair::uniform(shape, 0.01, 0.2, p.scale_dtype),
            z: Pair::rounded(shape, low, high, p.zero_dtype),
        }
    }

    /// On the tested device, with these step sizes and zero points.
    pub fn affine(&self, p: &Problem, scales: Tensor<2>, zero_points: Tensor<2>) -> AffineWeight {
        AffineWeight {
            codes: self.words.clone(),
            scales,
            zero_points,
            bits: p.bits,
            d_input: p.k(),
        }
    }

    /// `q - z` from plain ops on Flex, `[k, n]`.
    pub fn centered(&self, p: &Problem, z: Tensor<2>) -> Tensor<2> {
        Tensor::from_inner(self.codes.clone().float()) - spread(p, z)
    }

    /// `(q - z) * s` from plain ops on Flex.
    pub fn dense(&self, p: &Problem, s: Tensor<2>, z: Tensor<2>) -> Tensor<2> {
        self.centered(p, z) * spread(p, s)
    }
}

/// A number for each group and column as one for each row and column.
pub fn spread(p: &Problem, t: Tensor<2>) -> Tensor<2> {
    t.unsqueeze_dim::<3>(1)
        .expand([p.groups, p.rows_per_group, p.n])
        .reshape([p.k(), p.n])
}

/// Fails if an error is larger than `tolerance` times the largest value, or if the types differ.
pub fn assert_close<const D: usize>(
    what: &str,
    actual: Tensor<D>,
    dtype: FloatDType,
    expected: Tensor<D>,
    tolerance: f32,
) {
    assert_near(what, actual, dtype, expected, (tolerance, 1e-6));
}

/// Fails if an error is larger than `tolerance` times the largest value or the size of its terms, or if the types differ.
pub fn assert_near<const D: usize>(
    what: &str,
    actual: Tensor<D>,
    dtype: FloatDType,
    expected: Tensor<D>,
    (tolerance, terms): (f32, f32),
) {
    // Half of the distance between f16's smallest numbers, 2^-24: rounding alone is off by as much.
    let finest = match dtype {
        FloatDType::F16 => 2f32.powi(-25),
        _ => 0.0,
    };
    assert_within(what, actual, dtype.into(), expected, |largest| {
        tolerance * largest.max(terms) + finest
    });
}

/// Fails if an error is larger than `most` allows for the largest value, or if the types or shapes differ.
pub fn assert_within<const D: usize>(
    what: &str,
    actual: Tensor<D>,
    dtype: DType,
    expected: Tensor<D>,
    most: impl Fn(f32) -> f32,
) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    assert_eq!(actual.dtype(), dtype, "{what}");
    let (actual, expected) = (values(actual), values(expected));
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
        assert!(
            (a - e).abs() <= most(largest),
            "{what} {i}: {a} is not {e} (largest {largest})"
        );
    }
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
