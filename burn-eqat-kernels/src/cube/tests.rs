//! Every way to every product against the portable ops on Flex, on the device that
//! Burn's `BURN_DEVICE` names.
//!
//! The suite in `tests/` runs the ops, which take one way each; here all of them are taken.

use super::backend::packed;
use super::product;
use super::tensors::rows;
use super::weight::PackedWeight;
use crate::cube::plan::{Engine, GemvPlan, Limits, Route};
use crate::{Bits, Fields, pack_codes, portable};
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::{Backend, DispatchDevice, Flex, TensorMetadata};
use burn::tensor::{DType, Device, TensorData, try_read_sync};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use proptest::prelude::*;

fn device() -> Option<CubeDevice> {
    if std::env::var("BURN_DEVICE").is_ok()
        && let DispatchDevice::Cube(device) = Device::default().as_dispatch()
    {
        return Some(device.clone());
    }
    println!("skipped: BURN_DEVICE names no device of CubeCL's");
    None
}

/// Sizes and types of a product.
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

fn case() -> impl Strategy<Value = Case> {
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

/// Operands on the host, rounded to their types.
struct Operands {
    words: TensorData,
    s: TensorData,
    z: TensorData,
    x: TensorData,
    bias: TensorData,
    grad: TensorData,
}

impl Operands {
    fn random(case: &Case) -> Self {
        let (k, n, m) = (case.group * case.groups, case.n, case.m);
        let mut state = case.seed | 1;
        let mut uniform = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let levels = case.bits.max_code() as f32 + 1.0;
        let codes: Vec<i64> = (0..k * n).map(|_| (uniform() * levels) as i64).collect();
        let words = pack_codes(&codes, [k, n], 0, case.bits, Fields::Dense).unwrap();
        let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
        let mut floats = |shape: &[usize], low: f32, high: f32, whole: bool, dtype: DType| {
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| low + (high - low) * uniform())
                .map(|v| if whole { v.floor() } else { v })
                .collect();
            TensorData::new(values, shape.to_vec()).convert_dtype(dtype)
        };
        Operands {
            words: TensorData::new(words, [case.bits.words(k), n]),
            s: floats(&[case.groups, n], 0.01, 0.2, false, case.scale_dtype),
            z: floats(&[case.groups, n], 0.0, levels, true, case.scale_dtype),
            x: floats(&[m, k], -1.0, 1.0, false, case.dtype),
            bias: floats(&[n], -1.0, 1.0, false, case.dtype),
            grad: floats(&[m, n], -1.0, 1.0, false, case.dtype),
        }
    }
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

/// Largest difference as a part of the largest value.
fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= tolerance * largest,
            "{what} {i}: {a} is not {e} (largest {largest})"
        );
    }
}

/// What rounding to a type, inputs to outputs, may cost.
fn tolerance(dtypes: &[DType]) -> f32 {
    let of = |dtype: &DType| match dtype {
        DType::F16 => 2e-3,
        DType::BF16 => 1.5e-2,
        _ => 3e-5,
    };
    dtypes.iter().map(of).fold(0.0, f32::max)
}

fn weight(o: &Operands, case: &Case, device: &CubeDevice) -> PackedWeight {
    packed(
        CubeBackend::int_from_data(o.words.clone(), device),
        floats::<CubeBackend>(&o.s, device),
        floats::<CubeBackend>(&o.z, device),
        case.bits,
        [case.m, case.group * case.groups],
        case.dtype,
    )
}

const ROUTES: [Route; 5] = [
    Route::Gemv(4),
    Route::Gemv(64),
    Route::Tile(Engine::Units),
    Route::Tile(Engine::Matrix),
    Route::Slab,
];

fn check(case: &Case, device: &CubeDevice, routes: &[Route]) {
    let o = Operands::random(case);
    let (weight, k) = (weight(&o, case, device), case.group * case.groups);
    let on_device = |data: &TensorData| rows(floats::<CubeBackend>(data, device), case.dtype);
    let words = || Flex::int_from_data(o.words.clone(), &Default::default());
    let (x, grad, bias) = (on_device(&o.x), on_device(&o.grad), on_device(&o.bias));
    let (s, z) = (exact(&o.s), exact(&o.z));

    let y = portable::quant_linear::<Flex>(exact(&o.x), words(), s.clone(), z.clone(), case.bits);
    let y = values::<Flex>(portable::add_bias::<Flex>(y, exact(&o.bias)));
    let dx = portable::quant_linear_backward_input::<Flex>(
        words(),
        s.clone(),
        z.clone(),
        exact(&o.grad),
        case.bits,
        k,
    );
    let dx = values::<Flex>(dx);
    let (ds, dz) = portable::quant_linear_backward_scale::<Flex>(
        exact(&o.x),
        words(),
        s,
        z,
        exact(&o.grad),
        case.bits,
    );
    let (ds, dz) = (values::<Flex>(ds), values::<Flex>(dz));

    let read = |tensor: CubeTensor| values::<CubeBackend>(tensor);
    let activations = tolerance(&[case.dtype]);
    let scales = tolerance(&[case.dtype, case.scale_dtype]);
    for &route in routes {
        let what = |name: &str| format!("{name} by {route:?}");
        match product::forward(route, x.clone(), &weight, Some(bias.clone())) {
            Ok(made) => {
                assert_eq!(made.dtype(), case.dtype);
                assert_close(&what("y"), &read(made), &y, activations);
            }
            Err(why) => assert!(may_be_closed(route, &weight), "{why}"),
        }
        match product::input(route, grad.clone(), &weight) {
            Ok(made) => assert_close(&what("dx"), &read(made), &dx, activations),
            Err(why) => assert!(may_be_closed_backward(route, &weight), "{why}"),
        }
        match product::scale(route, x.clone(), grad.clone(), &weight) {
            Ok((made_s, made_z)) => {
                assert_eq!(
                    (made_s.dtype(), made_z.dtype()),
                    (case.scale_dtype, case.scale_dtype)
                );
                assert_close(&what("ds"), &read(made_s), &ds, scales);
                assert_close(&what("dz"), &read(made_z), &dz, scales);
            }
            Err(why) => assert!(may_be_closed_backward(route, &weight), "{why}"),
        }
    }
}

fn may_be_closed(route: Route, weight: &PackedWeight) -> bool {
    match route {
        Route::Gemv(lanes) => {
            GemvPlan::new(&weight.problem, weight.width, lanes, &weight.limits).is_none()
        }
        _ => may_be_closed_backward(route, weight),
    }
}

fn may_be_closed_backward(route: Route, weight: &PackedWeight) -> bool {
    match route {
        Route::Gemv(_) => true,
        Route::Tile(Engine::Matrix) => weight.limits.matrix.is_none(),
        Route::Tile(Engine::Units) => false,
        // Burn's own product refuses some shapes on the CPU runtime: it wants more shared memory than
        // there is.
        Route::Slab => weight.limits.cpu,
    }
}

#[test]
fn every_way_makes_the_same_product() {
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
            check(&case, &device, &ROUTES);
            Ok(())
        })
        .unwrap();
}

/// A product long enough that its sums are split and added up by a second kernel.
#[test]
fn long_products_are_split() {
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
        check(&case, &device, &ROUTES);
    }
}

/// Slices of the matrix-vector kernel that are added up within their plane, by one to all of its steps.
#[test]
fn planes_add_up() {
    let Some(device) = device() else { return };
    if Limits::of(&device.client(), DType::F32).plane.is_none() {
        println!("skipped: planes of no one size, or without shuffles");
        return;
    }
    let routes = [1, 2, 4].map(Route::Gemv);
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
        check(&case, &device, &routes);
    }
}

/// Each size of tile that matrix units are fed, in each type that they take, with ragged edges and with
/// sums that are split.
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
            check(&case, &device, &[Route::Tile(Engine::Matrix)]);
        }
    }
}
