//! candle's quantized matmuls on the same shapes. They use the instructions that the program is compiled
//! for, so run with `RUSTFLAGS="-C target-cpu=native"`.

use super::memory::Copies;
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use std::borrow::Cow;

/// Measures each type with every number of rows.
pub fn bench(group: &mut BenchmarkGroup<WallTime>, [k, n]: [usize; 2], rows: &[usize]) {
    let weight = Tensor::randn(0f32, 0.02, (n, k), &Device::Cpu).unwrap();
    for (name, dtype) in [
        ("Q2_K", GgmlDType::Q2K),
        ("Q4_0", GgmlDType::Q4_0),
        ("Q4_K", GgmlDType::Q4K),
    ] {
        let quantized = QTensor::quantize(&weight, dtype).unwrap();
        let data = quantized.data().unwrap();
        let layers = Copies::new(data.len(), || {
            let copy = Cow::Owned(data.to_vec());
            let storage = QStorage::from_data(copy, &Device::Cpu, dtype).unwrap();
            let tensor = QTensor::new(storage, (n, k)).unwrap();
            QMatMul::from_qtensor(tensor).unwrap()
        });
        for m in rows {
            let x = Tensor::randn(0f32, 1.0, (*m, k), &Device::Cpu).unwrap();
            group.bench_function(format!("M={m}/candle {name}"), |bench| {
                bench.iter(|| layers.next().forward(&x).unwrap())
            });
        }
    }
}
