//! Compares every strategy of every matmul with the portable ops on Flex, on the device that Burn's `BURN_DEVICE`
//! names. Also tests the errors of the backend's trait.
//!
//! The suite in `tests/` runs the ops, which select one strategy each. These tests run all of them.

use super::linear::matmul::{Forward, InputGradient, Matmul, ScaleGradient};
use super::plan::gemv::GemvPlan;
use super::plan::limits::Limits;
use super::plan::mma::MmaPlan;
use super::plan::strategy::Strategy;
use super::plan::tile::Engine;
use super::tensors::{rows, word_rows};
use super::weight::{DeviceWeight, ZeroPoints};
use crate::{Bits, Fields, QuantOps, pack_codes, portable, sizes};
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::{Backend, DispatchDevice, Flex, TensorMetadata};
use burn::tensor::{DType, Device, Tensor, TensorData, try_read_sync};
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use proptest::prelude::{ProptestConfig, any, prop};
use proptest::strategy::Strategy as Generator;

pub(super) fn device() -> Option<CubeDevice> {
    if std::env::var("BURN_DEVICE").is_ok()
        && let DispatchDevice::Cube(device) = Device::default().as_dispatch()
    {
        return Some(device.clone());
    }
    println!("skipped: BURN_DEVICE names no device of CubeCL's");
    None
}

/// Sizes and types of a matmul.
#[derive(Clone, Debug)]
struct Case {
    bits: Bits,
    group: usize,
    groups: usize,
    n: usize,
    m: usize,
    dtype: DType,
    scale_dtype: DType,
    seed: u64,
}

fn case() -> impl Generator<Value = Case> {
    let types: Vec<DType> = [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .filter(|dtype| crate::supports(&Device::default(), *dtype))
        .collect();
    (
        prop::sample::select(Bits::ALL.to_vec()),
        prop::sample::select(vec![1usize, 7, 16, 24, 32, 64, 100, 160]),
        1usize..5,
        prop::sample::select(vec![1usize, 3, 6, 12, 17, 64, 130]),
        prop::sample::select(vec![1usize, 2, 5, 8, 9, 20, 40, 70, 130]),
        prop::sample::select(types.clone()),
        prop::sample::select(types),
        any::<u64>(),
    )
        .prop_map(
            |(bits, group, groups, n, m, dtype, scale_dtype, seed)| Case {
                bits,
                group,
                groups,
                n,
                m,
                dtype,
                scale_dtype,
                seed,
            },
        )
}

/// Values on the host, rounded to their types.
struct HostValues {
    codes: TensorData,
    scales: TensorData,
    zero_points: TensorData,
    /// The zero points, packed along the columns.
    zero_words: TensorData,
    x: TensorData,
    bias: TensorData,
    grad: TensorData,
}

impl HostValues {
    fn random(case: &Case) -> Self {
        let (k, n, m) = (case.group * case.groups, case.n, case.m);
        let mut state = case.seed | 1;
        let mut uniform = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let code_count = case.bits.max_code() as f32 + 1.0;
        let codes: Vec<i64> = (0..k * n)
            .map(|_| (uniform() * code_count) as i64)
            .collect();
        let words = pack_codes(&codes, [k, n], 0, case.bits, Fields::Dense).unwrap();
        let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
        let mut floats = |shape: &[usize], low: f32, high: f32, whole: bool, dtype: DType| {
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| low + (high - low) * uniform())
                .map(|v| if whole { v.floor() } else { v })
                .collect();
            TensorData::new(values, shape.to_vec()).convert_dtype(dtype)
        };
        let scales = floats(&[case.groups, n], 0.01, 0.2, false, case.scale_dtype);
        let zero_points = floats(&[case.groups, n], 0.0, code_count, true, case.scale_dtype);
        let zeros: Vec<i64> = zero_points.iter::<i64>().collect();
        let zeros = pack_codes(&zeros, [case.groups, n], 1, case.bits, Fields::Dense).unwrap();
        let zeros: Vec<i32> = zeros.into_iter().map(|word| word as i32).collect();
        HostValues {
            codes: TensorData::new(words, [case.bits.words(k), n]),
            scales,
            zero_points,
            zero_words: TensorData::new(zeros, [case.groups, case.bits.words(n)]),
            x: floats(&[m, k], -1.0, 1.0, false, case.dtype),
            bias: floats(&[n], -1.0, 1.0, false, case.dtype),
            grad: floats(&[m, n], -1.0, 1.0, false, case.dtype),
        }
    }
}

/// The sizes of the result, and of the gradients by input, scales and zero points, by their terms.
fn term_sizes(host: &HostValues, case: &Case) -> (f32, [f32; 3]) {
    let on_flex =
        |data: TensorData| Tensor::<2>::from_data(data.convert_dtype(DType::F32), &Device::flex());
    let k = case.group * case.groups;
    let dense = |scales: &TensorData| {
        let words = Flex::int_from_data(host.codes.clone(), &Default::default());
        let zero_points = exact(&host.zero_points);
        let w = portable::dequantize::<Flex>(words, exact(scales), zero_points, case.bits, k);
        on_flex(TensorData::new(values::<Flex>(w), [k, case.n]))
    };
    let (x, grad) = (on_flex(host.x.clone()), on_flex(host.grad.clone()));
    let (s, w) = (on_flex(host.scales.clone()), dense(&host.scales));
    let centered = dense(&TensorData::ones::<f32, _>([case.groups, case.n]));
    let result = sizes::of_product(x.clone(), w.clone());
    (result, sizes::of_gradients(x, grad, w, centered, s))
}

fn floats<B: Backend>(data: &TensorData, device: &B::Device) -> B::FloatTensorPrimitive {
    B::float_from_data(data.clone(), device)
}

fn exact(data: &TensorData) -> <Flex as burn::backend::BackendTypes>::FloatTensorPrimitive {
    Flex::float_from_data(data.clone().convert_dtype(DType::F32), &Default::default())
}

fn values<B: Backend>(tensor: B::FloatTensorPrimitive) -> Vec<f32> {
    let data = try_read_sync(B::float_into_data(tensor)).unwrap().unwrap();
    data.iter::<f32>().collect()
}

/// Compares the largest difference with the largest value, or with the size of its terms.
fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32, terms: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(terms, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= tolerance * largest,
            "{what} {i}: {a} is not {e} (largest {largest})"
        );
    }
}

/// The allowed error of Burn's own matmul, which is in TF32 where the device has it.
fn slab_tolerance(client: &Client) -> f32 {
    let tf32 = ElemType::Float(FloatKind::TF32);
    if client.properties().supports_type(tf32) {
        2e-3
    } else {
        0.0
    }
}

/// The allowed error of rounding inputs and outputs to their types.
fn tolerance(dtypes: &[DType]) -> f32 {
    let of = |dtype: &DType| match dtype {
        DType::F16 => 2e-3,
        DType::BF16 => 1.5e-2,
        _ => 3e-5,
    };
    dtypes.iter().map(of).fold(0.0, f32::max)
}

fn weight(values: &HostValues, case: &Case, device: &CubeDevice) -> DeviceWeight {
    DeviceWeight::new(
        CubeBackend::int_from_data(values.codes.clone(), device),
        floats::<CubeBackend>(&values.scales, device),
        ZeroPoints::Numbers(floats::<CubeBackend>(&values.zero_points, device)),
        case.bits,
        [case.m, case.group * case.groups],
        case.dtype,
    )
}

const STRATEGIES: [Strategy; 6] = [
    Strategy::Gemv(4),
    Strategy::Gemv(64),
    Strategy::Mma(2),
    Strategy::Tile(Engine::Units),
    Strategy::Tile(Engine::Matrix),
    Strategy::Slab,
];

fn check(case: &Case, device: &CubeDevice, strategies: &[Strategy]) {
    let host = HostValues::random(case);
    let (weight, k) = (weight(&host, case, device), case.group * case.groups);
    let zero_words = CubeBackend::int_from_data(host.zero_words.clone(), device);
    let packed = DeviceWeight {
        zero_points: ZeroPoints::Words(word_rows(zero_words)),
        ..weight.clone()
    };
    let on_device = |data: &TensorData| rows(floats::<CubeBackend>(data, device), case.dtype);
    let words = || Flex::int_from_data(host.codes.clone(), &Default::default());
    let (x, grad, bias) = (
        on_device(&host.x),
        on_device(&host.grad),
        on_device(&host.bias),
    );
    let (s, z) = (exact(&host.scales), exact(&host.zero_points));

    let y =
        portable::quant_linear::<Flex>(exact(&host.x), words(), s.clone(), z.clone(), case.bits);
    let y = values::<Flex>(portable::add_bias::<Flex>(y, exact(&host.bias)));
    let dx = portable::quant_linear_backward_input::<Flex>(
        words(),
        s.clone(),
        z.clone(),
        exact(&host.grad),
        case.bits,
        k,
    );
    let dx = values::<Flex>(dx);
    let (ds, dz) = portable::quant_linear_backward_scale::<Flex>(
        exact(&host.x),
        words(),
        s,
        z,
        exact(&host.grad),
        case.bits,
    );
    let (ds, dz) = (values::<Flex>(ds), values::<Flex>(dz));

    let (y_size, [dx_size, ds_size, dz_size]) = term_sizes(&host, case);

    let read = |tensor: CubeTensor| values::<CubeBackend>(tensor);
    let activations = tolerance(&[case.dtype]);
    let scales = tolerance(&[case.dtype, case.scale_dtype]);
    for &strategy in strategies {
        let slab = match strategy {
            Strategy::Slab => slab_tolerance(&device.client()),
            _ => 0.0,
        };
        let (activations, scales) = (activations.max(slab), scales.max(slab));
        let what = |name: &str| format!("{name} by {strategy:?}");
        for (name, weight) in [("y", &weight), ("y, packed zero points", &packed)] {
            let forward = Forward {
                x: x.clone(),
                weight: weight.clone(),
                bias: Some(bias.clone()),
            };
            match forward.run(strategy) {
                Ok(made) => {
                    assert_eq!(made.dtype(), case.dtype);
                    assert_close(&what(name), &read(made), &y, activations, y_size);
                }
                Err(why) => assert!(may_be_unavailable(strategy, weight, case.dtype), "{why}"),
            }
        }
        let input = InputGradient {
            grad: grad.clone(),
            weight: weight.clone(),
        };
        match input.run(strategy) {
            Ok(made) => assert_close(&what("dx"), &read(made), &dx, activations, dx_size),
            Err(why) => assert!(may_be_unavailable_backward(strategy, &weight), "{why}"),
        }
        let scale = ScaleGradient {
            x: x.clone(),
            grad: grad.clone(),
            weight: weight.clone(),
        };
        match scale.run(strategy) {
            Ok((made_s, made_z)) => {
                assert_eq!(
                    (made_s.dtype(), made_z.dtype()),
                    (case.scale_dtype, case.scale_dtype)
                );
                assert_close(&what("ds"), &read(made_s), &ds, scales, ds_size);
                assert_close(&what("dz"), &read(made_z), &dz, scales, dz_size);
            }
            Err(why) => assert!(may_be_unavailable_backward(strategy, &weight), "{why}"),
        }
    }
}

fn may_be_unavailable(strategy: Strategy, weight: &DeviceWeight, dtype: DType) -> bool {
    match strategy {
        Strategy::Gemv(lanes) => {
            GemvPlan::new(&weight.problem, weight.width, lanes, &weight.limits).is_none()
        }
        Strategy::Mma(across) => {
            let (problem, limits) = (&weight.problem, &weight.limits);
            MmaPlan::new(problem, dtype, weight.width, across, limits).is_none()
        }
        _ => may_be_unavailable_backward(strategy, weight),
    }
}

fn may_be_unavailable_backward(strategy: Strategy, weight: &DeviceWeight) -> bool {
    match strategy {
        Strategy::Gemv(_) | Strategy::Mma(_) => true,
        Strategy::Tile(Engine::Matrix) => weight.limits.matrix.is_none(),
        Strategy::Tile(Engine::Units) => false,
        // Burn's own matmul refuses some shapes on the CPU runtime: it wants more shared memory than
        // there is.
        Strategy::Slab => weight.limits.cpu,
    }
}

#[test]
fn every_strategy_makes_the_same_matmul() {
    let Some(device) = device() else { return };
    let limits = Limits::of(&device.client(), DType::F32);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: ProptestConfig::default().cases.min(24),
        failure_persistence: None,
        max_shrink_iters: 16,
        ..ProptestConfig::default()
    });
    runner
        .run(&case(), |case| {
            // Kernels for many rows of fewer than four columns can take CubeCL's CPU runtime a quarter of an
            // hour to compile.
            if limits.cpu && case.n < 4 && case.m > 8 {
                return Ok(());
            }
            check(&case, &device, &STRATEGIES);
            Ok(())
        })
        .unwrap();
}

/// A matmul so long that its sums are split, and added up by a second kernel.
#[test]
fn long_matmuls_are_split() {
    let Some(device) = device() else { return };
    for (m, bits) in [(1, Bits::Two), (12, Bits::Three)] {
        let case = Case {
            bits,
            group: 64,
            groups: 64,
            n: 12,
            m,
            dtype: DType::F32,
            scale_dtype: DType::F32,
            seed: 7,
        };
        check(&case, &device, &STRATEGIES);
    }
}

/// Slices of the matrix-vector kernel that are added up within their plane, in one to all of its steps.
#[test]
fn planes_add_up() {
    let Some(device) = device() else { return };
    if Limits::of(&device.client(), DType::F32).plane.is_none() {
        println!("skipped: planes of no one size, or without shuffles");
        return;
    }
    let strategies = [1, 2, 4].map(Strategy::Gemv);
    for (m, bits, n) in [(1, Bits::Two, 68), (3, Bits::Three, 17), (8, Bits::Four, 6)] {
        let case = Case {
            bits,
            group: 32,
            groups: 24,
            n,
            m,
            dtype: DType::F32,
            scale_dtype: DType::F32,
            seed: n as u64,
        };
        check(&case, &device, &strategies);
    }
}

/// Matrix units fed from registers: each number of tiles of rows, of planes side by side and of ranges, with ragged edges.
#[test]
fn registers_feed_the_matrix_units() {
    let Some(device) = device() else { return };
    let shapes = [
        (64, 1, 4, 1),
        (64, 3, 36, 3),
        (128, 17, 68, 8),
        (64, 40, 260, 12),
        (192, 5, 132, 31),
        (64, 100, 64, 50),
    ];
    for dtype in [DType::F16, DType::BF16] {
        if !crate::supports(&Device::default(), dtype) || !Limits::of(&device.client(), dtype).mma {
            println!("skipped: no such matrix units for {dtype:?}");
            continue;
        }
        for bits in Bits::ALL {
            for (group, groups, n, m) in shapes {
                let case = Case {
                    bits,
                    group,
                    groups,
                    n,
                    m,
                    dtype,
                    scale_dtype: DType::F16,
                    seed: m as u64,
                };
                check(&case, &device, &[1, 2, 4, 8].map(Strategy::Mma));
            }
        }
    }
}

/// Each tile size of the matrix units, in each of their types, with ragged edges and with split sums.
#[test]
fn matrix_units_make_every_tile() {
    let Some(device) = device() else { return };
    let shapes = [
        (16, 4, 130, 9),
        (100, 3, 17, 20),
        (24, 4, 64, 40),
        (160, 1, 12, 70),
        (32, 16, 68, 130),
    ];
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let limits = Limits::of(&device.client(), dtype);
        if !crate::supports(&Device::default(), dtype) || limits.matrix.is_none() {
            println!("skipped: no matrix units for {dtype:?}");
            continue;
        }
        for ((group, groups, n, m), bits) in shapes.into_iter().zip(Bits::ALL.into_iter().cycle()) {
            let case = Case {
                bits,
                group,
                groups,
                n,
                m,
                dtype,
                scale_dtype: DType::F32,
                seed: m as u64,
            };
            check(&case, &device, &[Strategy::Tile(Engine::Matrix)]);
        }
    }
}

/// The message of a panic.
fn message<R>(run: impl FnOnce() -> R) -> String {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    let Err(payload) = panicked else {
        panic!("it was not refused");
    };
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(_) => panic!("a panic without a message"),
    }
}

/// The trait is safe to call with any operands, so operands that do not fit together must never reach a kernel.
#[test]
fn the_trait_refuses_lengths_that_do_not_fit() {
    let Some(device) = device() else { return };
    let (bits, d_input, n, groups, m) = (Bits::Three, 64, 6, 2, 3);
    let floats = |shape: &[usize]| {
        let data = TensorData::zeros::<f32, _>(shape.to_vec());
        CubeBackend::float_from_data(data, &device)
    };
    let words = |shape: &[usize]| {
        let data = TensorData::zeros::<i32, _>(shape.to_vec());
        CubeBackend::int_from_data(data, &device)
    };
    let codes = || words(&[bits.words(d_input), n]);
    let short_codes = || words(&[bits.words(d_input) - 1, n]);
    let per_group = || floats(&[groups, n]);
    let few = || floats(&[groups, n - 1]);
    let refuses = |operand: &str, message: String| {
        let expected = format!("{operand} has shape");
        assert!(
            message.contains(&expected),
            "{message} does not say {expected}"
        );
    };

    // The packed linear layer and its gradients.
    let x = || floats(&[m, d_input]);
    let grad = || floats(&[m, n]);
    let forward = |codes, zero_points| {
        message(|| CubeBackend::quant_linear(x(), codes, per_group(), zero_points, bits))
    };
    refuses("codes", forward(short_codes(), per_group()));
    refuses("zero_points", forward(codes(), few()));
    let short_bias = || floats(&[n - 1]);
    let biased = |bias| {
        message(|| {
            CubeBackend::quant_linear_bias(x(), codes(), per_group(), per_group(), bias, bits)
        })
    };
    refuses("bias", biased(short_bias()));
    // By the op, or where its zero points are unpacked.
    let zeros = words(&[groups, bits.words(n) - 1]);
    refuses(
        "",
        message(|| CubeBackend::quant_linear_packed(x(), codes(), per_group(), zeros, bits)),
    );
    let zeros = words(&[groups, bits.words(n)]);
    refuses(
        "bias",
        message(|| {
            let bias = short_bias();
            CubeBackend::quant_linear_packed_bias(x(), codes(), per_group(), zeros, bias, bits)
        }),
    );
    let input = |codes, grad| {
        message(|| {
            CubeBackend::quant_linear_backward_input(
                codes,
                per_group(),
                per_group(),
                grad,
                bits,
                d_input,
            )
        })
    };
    refuses("codes", input(short_codes(), grad()));
    refuses("grad", input(codes(), floats(&[m, n + 1])));
    let scale = |codes, grad| {
        message(|| {
            CubeBackend::quant_linear_backward_scale(
                x(),
                codes,
                per_group(),
                per_group(),
                grad,
                bits,
            )
        })
    };
    refuses("codes", scale(short_codes(), grad()));
    refuses("grad", scale(codes(), floats(&[m - 1, n])));

    // Unpacking and dequantization.
    refuses(
        "codes",
        message(|| CubeBackend::quant_unpack(codes(), bits, d_input + 32)),
    );
    refuses(
        "codes",
        message(|| CubeBackend::quant_unpack_columns(codes(), bits, 2 * n)),
    );
    let dequantize = |codes, zero_points| {
        message(|| CubeBackend::quant_dequantize(codes, per_group(), zero_points, bits, d_input))
    };
    refuses("codes", dequantize(short_codes(), per_group()));
    refuses("zero_points", dequantize(codes(), few()));
    let backward = |codes, grad| {
        message(|| {
            CubeBackend::quant_dequantize_backward(
                codes,
                per_group(),
                per_group(),
                grad,
                bits,
                d_input,
            )
        })
    };
    refuses("codes", backward(short_codes(), floats(&[d_input, n])));
    refuses("grad", backward(codes(), floats(&[d_input - 1, n])));
    let groups_do_not_divide = message(|| {
        let three = floats(&[3, n]);
        CubeBackend::quant_dequantize(codes(), three.clone(), three, bits, d_input)
    });
    assert!(groups_do_not_divide.contains("do not divide"));

    // Fake quantization.
    let dense = || floats(&[d_input, n]);
    let fake = |scales, zero_points| {
        message(|| CubeBackend::fake_quantize(dense(), scales, zero_points, bits))
    };
    refuses("scales", fake(few(), few()));
    refuses("zero_points", fake(per_group(), few()));
    refuses(
        "grad",
        message(|| {
            let grad = floats(&[d_input - 1, n]);
            CubeBackend::fake_quantize_backward(dense(), per_group(), per_group(), grad, bits)
        }),
    );
}
