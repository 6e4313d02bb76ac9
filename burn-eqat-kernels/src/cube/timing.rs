//! Times every strategy of a matmul on a GPU, side by side: the order of [`strategies`] follows from such tables, and a change of a
//! kernel is judged by them.
//!
//!     BURN_DEVICE=cuda cargo test --release -p burn-eqat-kernels --features cuda --lib -- --ignored --nocapture side_by_side
//!
//! `EQAT_SHAPES`, `EQAT_ROWS` and `EQAT_BITS` choose others than the default (`28672x8192,4096x4096`, `1,16,64`, `2,4`).

use super::linear::matmul::{Forward, InputGradient, Matmul, ScaleGradient};
use super::plan::strategy::{Strategy, strategies};
use super::plan::tile::MatmulKind;
use super::plan::traffic::Traffic;
use super::tests::device;
use super::weight::{DeviceWeight, ZeroPoints};
use crate::Bits;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::{DType, Device, TensorData};
use burn_cubecl::{CubeBackend, CubeDevice};
use std::time::Instant;

/// Bytes of weights that are multiplied one after the other, so that none is in a cache.
const WORKING_SET: usize = 256 << 20;

/// Values of a variable, separated by commas.
fn listed(name: &str, default: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_else(|_| default.into());
    text.split(',').map(str::to_string).collect()
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// Random bits.
fn random(seed: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(seed | 1), |state| {
        let state = state ^ state << 13;
        let state = state ^ state >> 7;
        Some(state ^ state << 17)
    })
    .skip(1)
}

fn words(shape: [usize; 2], seed: u64, device: &CubeDevice) -> burn_cubecl::tensor::CubeTensor {
    let words = random(seed).map(|bits| bits as i32);
    let data = TensorData::new(words.take(shape[0] * shape[1]).collect::<Vec<i32>>(), shape);
    CubeBackend::int_from_data(data, device)
}

fn floats(
    shape: [usize; 2],
    dtype: DType,
    seed: u64,
    scale: f32,
    device: &CubeDevice,
) -> burn_cubecl::tensor::CubeTensor {
    let floats = random(seed).map(|bits| scale * ((bits >> 40) as f32 / (1u64 << 24) as f32 - 0.5));
    let values: Vec<f32> = floats.take(shape[0] * shape[1]).collect();
    let data = TensorData::new(values, shape).convert_dtype(dtype);
    CubeBackend::float_from_data(data, device)
}

/// Median microseconds of a call, which gets its number; calls are issued in batches that are waited for.
fn microseconds(mut run: impl FnMut(usize)) -> f64 {
    let wait = || Device::default().sync().expect("the device runs");
    let mut calls = 0..;
    let mut run = || run(calls.next().expect("there is no last number"));
    (0..3).for_each(|_| run());
    wait();
    let start = Instant::now();
    (0..10).for_each(|_| run());
    wait();
    let once = start.elapsed().as_secs_f64() / 10.0;
    let batch = ((0.01 / once) as usize).clamp(2, 200);
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            (0..batch).for_each(|_| run());
            wait();
            start.elapsed().as_secs_f64() / batch as f64 * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn time<M: Matmul>(strategy: Strategy, matmuls: &[M]) -> Option<f64> {
    matmuls[0].clone().run(strategy).ok()?;
    Some(microseconds(|call| {
        let matmul = matmuls[call % matmuls.len()].clone();
        drop(matmul.run(strategy));
    }))
}

fn table<M: Matmul>(what: &str, matmuls: &[M]) {
    let weight = matmuls[0].weight();
    let dtype = matmuls[0].activations().dtype;
    for strategy in strategies(M::KIND, weight.problem.m, &weight.limits) {
        let time = match time(strategy, matmuls) {
            Some(time) => format!("{time:9.1}"),
            None => "        -".into(),
        };
        let on_paper = match M::KIND {
            MatmulKind::Forward => Traffic::of(
                strategy,
                &weight.problem,
                dtype,
                weight.width,
                &weight.limits,
            ),
            _ => None,
        };
        let on_paper = on_paper
            .map(|traffic| format!("{traffic:?}"))
            .unwrap_or_default();
        println!("{what} | {strategy:?} | {time} | {on_paper}");
    }
}

#[test]
#[ignore = "measures"]
fn strategies_side_by_side() {
    let Some(device) = device() else { return };
    let dtype = DType::BF16;
    for shape in listed("EQAT_SHAPES", "28672x8192,4096x4096") {
        let (n, k) = shape.split_once('x').expect("a shape like 4096x4096");
        let (n, k, group) = (number(n), number(k), 64);
        for bits in listed("EQAT_BITS", "2,4") {
            let bits = Bits::try_from(number(&bits)).expect("2, 3, 4 or 8 bits");
            let size = bits.words(k) * n * 4;
            let copies: Vec<[_; 3]> = (0..WORKING_SET.div_ceil(size).min(64) as u64)
                .map(|i| {
                    [
                        words([bits.words(k), n], 3 * i + 1, &device),
                        words([k / group, bits.words(n)], 3 * i + 2, &device),
                        floats([k / group, n], DType::F16, 3 * i + 3, 0.1, &device),
                    ]
                })
                .collect();
            for m in listed("EQAT_ROWS", "1,16,64") {
                let m = number(&m);
                let x = floats([m, k], dtype, 5, 1.0, &device);
                let grad = floats([m, n], dtype, 7, 1.0, &device);
                let weights: Vec<DeviceWeight> = copies
                    .iter()
                    .map(|[codes, zeros, scales]| {
                        DeviceWeight::new(
                            codes.clone(),
                            scales.clone(),
                            ZeroPoints::Words(zeros.clone()),
                            bits,
                            [m, k],
                            dtype,
                        )
                    })
                    .collect();
                let of = |name| format!("{n}x{k} w{} m={m} {name}", bits.get());
                let forward: Vec<Forward> = weights
                    .iter()
                    .map(|weight| Forward {
                        x: x.clone(),
                        weight: weight.clone(),
                        bias: None,
                    })
                    .collect();
                table(&of("y"), &forward);
                if std::env::var("EQAT_BACKWARD").is_err() {
                    continue;
                }
                let input: Vec<InputGradient> = weights
                    .iter()
                    .map(|weight| InputGradient {
                        grad: grad.clone(),
                        weight: weight.with_numbers(),
                    })
                    .collect();
                table(&of("dx"), &input);
                let scale: Vec<ScaleGradient> = weights
                    .iter()
                    .map(|weight| ScaleGradient {
                        x: x.clone(),
                        grad: grad.clone(),
                        weight: weight.with_numbers(),
                    })
                    .collect();
                table(&of("ds, dz"), &scale);
            }
        }
    }
}
