//! A packed linear layer beside Burn's own in f32, on the CPU backend: forward, and forward with
//! backward as E2E-QP runs it.

use burn::module::{Module, ParamGroup};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_eqat::{QuantLinear, Quantize};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SHAPES: [(usize, usize); 2] = [(1024, 1024), (2048, 1024)];
const ROWS: [usize; 3] = [1, 8, 128];
const SCHEMES: [&str; 3] = ["w2g64", "w3g64", "w4g64"];

fn packed(linear: Linear, scheme: &str) -> QuantLinear {
    QuantLinear::from(linear)
        .quantize_rtn(&ParamGroup::all(), scheme.parse().unwrap())
        .unwrap()
}

fn forward(criterion: &mut Criterion) {
    let device = Device::flex();
    for (k, n) in SHAPES {
        let linear = LinearConfig::new(k, n).with_bias(false).init(&device);
        for m in ROWS {
            let mut group = criterion.benchmark_group(format!("forward {k}x{n} M={m}"));
            group.sample_size(20);
            let x = Tensor::<2>::random([m, k], Distribution::Default, &device);
            group.bench_function("burn f32", |b| {
                b.iter(|| linear.forward(x.clone()).into_data())
            });
            for scheme in SCHEMES {
                let packed = packed(linear.clone(), scheme);
                group.bench_with_input(BenchmarkId::from_parameter(scheme), &x, |b, x| {
                    b.iter(|| packed.forward(x.clone()).into_data())
                });
            }
        }
    }
}

fn train(criterion: &mut Criterion) {
    let device = Device::flex();
    let (k, n, m) = (1024, 1024, 128);
    let linear = LinearConfig::new(k, n).with_bias(false).init(&device);
    let x = Tensor::<2>::random([m, k], Distribution::Default, &device);
    let input = || Tensor::from_inner(x.clone()).require_grad();
    let mut group = criterion.benchmark_group(format!("forward and backward {k}x{n} M={m}"));
    group.sample_size(20);
    let dense = linear.clone().train();
    group.bench_function("burn f32", |b| {
        b.iter(|| dense.forward(input()).sum().backward())
    });
    for scheme in SCHEMES {
        let packed = packed(linear.clone(), scheme).train();
        group.bench_function(scheme, |b| {
            b.iter(|| packed.forward(input()).sum().backward())
        });
    }
}

criterion_group!(benches, forward, train);
criterion_main!(benches);
