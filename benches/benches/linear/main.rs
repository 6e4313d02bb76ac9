//! Compares a packed linear layer on the CPU backend with its alternatives: Burn's own in f32, candle's
//! quantized ones (with the feature `candle`), and the time to read the same bytes. Then measures forward with
//! backward as in E2E-QP.
//!
//! As in a model, a weight is used again only after many others, so weights come from memory.

#[cfg(feature = "candle")]
mod candle;
mod memory;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_eqat::{InferenceConfig, QuantLinear, Quantize, Scheme, Weights};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use memory::Copies;
use std::time::Duration;

/// Rows and columns of the weight.
const SHAPES: [(usize, usize); 2] = [(4096, 4096), (11008, 4096)];
/// Rows of the input.
const ROWS: [usize; 6] = [1, 2, 4, 8, 32, 128];
/// Settings of packed layers: with 8-bit activations or without, from a repacked weight or from the words.
const KINDS: [(&str, bool, bool); 4] = [
    ("exact", false, false),
    ("exact, repacked", false, true),
    ("8-bit activations", true, false),
    ("8-bit activations, repacked", true, true),
];
const SCHEMES: [&str; 3] = ["w2g64", "w3g64", "w4g64"];

fn dense(k: usize, n: usize, device: &Device) -> Linear {
    LinearConfig::new(k, n).with_bias(false).init(device)
}

fn packed(linear: Linear, scheme: Scheme) -> QuantLinear {
    QuantLinear::from(linear)
        .quantize_rtn(&Weights::matrices(), scheme)
        .unwrap()
}

/// Gives every parameter its own memory.
struct DeepCopy;

impl ModuleMapper for DeepCopy {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| Tensor::from_data(value.to_data(), &value.device()))
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        param.map(|value| Tensor::from_data(value.to_data(), &value.device()))
    }
}

/// Bytes of a packed layer in memory: words, and step sizes in f32.
fn packed_bytes(layer: &QuantLinear) -> usize {
    let report = layer.size_report();
    let [_, n] = layer.shape();
    let scales = layer.weight.base().dims()[0] * n;
    report.packed_bytes + 2 * scales
}

fn inputs(k: usize, device: &Device) -> [Tensor<2>; ROWS.len()] {
    ROWS.map(|m| Tensor::random([m, k], Distribution::Normal(0.0, 1.0), device))
}

/// Measures `forward` with every number of rows.
fn forward<T>(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    layers: &Copies<T>,
    inputs: &[Tensor<2>],
    forward: impl Fn(&T, Tensor<2>) -> Tensor<2>,
) {
    for x in inputs {
        let [m, _] = x.dims();
        group.bench_function(format!("M={m}/{name}"), |bench| {
            bench.iter(|| forward(layers.next(), x.clone()))
        });
    }
}

fn inference(criterion: &mut Criterion) {
    let device = Device::flex();
    for (k, n) in SHAPES {
        let mut group = criterion.benchmark_group(format!("{k}x{n}"));
        group.sample_size(20);
        group.warm_up_time(Duration::from_secs(1));
        group.measurement_time(Duration::from_secs(3));
        let inputs = inputs(k, &device);
        let linear = dense(k, n, &device);
        {
            let layers = Copies::new(4 * k * n, || dense(k, n, &device));
            forward(&mut group, "burn f32", &layers, &inputs, |layer, x| {
                layer.forward(x)
            });
        }
        for name in SCHEMES {
            let scheme: Scheme = name.parse().unwrap();
            let first = packed(linear.clone(), scheme);
            let bytes = packed_bytes(&first);
            memory::bench(&mut group, &format!("M=1/read the bytes of {name}"), bytes);
            let layers = Copies::new(bytes, || first.clone().map(&mut DeepCopy));
            for (kind, fast, repack) in KINDS {
                let config = InferenceConfig::new()
                    .with_fast_activations(fast)
                    .with_repack_weights(repack);
                let name = format!("{name} {kind}");
                // Copies are made before anything is measured.
                layers.each(|layer| drop(config.run(|| layer.forward(inputs[0].clone()))));
                forward(&mut group, &name, &layers, &inputs, |layer, x| {
                    config.run(|| layer.forward(x))
                });
            }
        }
        #[cfg(feature = "candle")]
        candle::bench(&mut group, [k, n], &ROWS);
    }
}

fn train(criterion: &mut Criterion) {
    let device = Device::flex();
    let (k, n, m) = (1024, 1024, 128);
    let linear = dense(k, n, &device);
    let x = Tensor::<2>::random([m, k], Distribution::Default, &device);
    let input = || Tensor::from_inner(x.clone()).require_grad();
    let mut group = criterion.benchmark_group(format!("forward and backward {k}x{n} M={m}"));
    group.sample_size(20);
    let dense = linear.clone().train();
    group.bench_function("burn f32", |b| {
        b.iter(|| dense.forward(input()).sum().backward())
    });
    for scheme in SCHEMES {
        let packed = packed(linear.clone(), scheme.parse().unwrap()).train();
        group.bench_function(scheme, |b| {
            b.iter(|| packed.forward(input()).sum().backward())
        });
    }
}

criterion_group!(benches, inference, train);
criterion_main!(benches);
