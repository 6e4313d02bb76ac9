//! Compares Burn's fused attention with ours, on Flex or the device that Burn's `BURN_DEVICE` names.

use super::{attention, fused, tiled};
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};

fn device() -> Device {
    match std::env::var("BURN_DEVICE") {
        Ok(_) => Device::default(),
        #[cfg(feature = "flex")]
        Err(_) => Device::flex(),
        #[cfg(not(feature = "flex"))]
        Err(_) => Device::default(),
    }
}

/// The allowed difference of results in f32. Burn's matmul is in TF32, of 11 significant bits, on CUDA's matrix units.
fn finest() -> f32 {
    let cuda = std::env::var("BURN_DEVICE").is_ok_and(|device| device.starts_with("cuda"));
    if cuda { 4e-3 } else { 1e-5 }
}

fn random(shape: [usize; 4], dtype: DType) -> Tensor<4> {
    let uniform = Distribution::Uniform(-1.0, 1.0);
    Tensor::<4>::random(shape, uniform, &device()).cast(FloatDType::from(dtype))
}

fn difference(a: Tensor<4>, b: Tensor<4>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let a = a.cast(FloatDType::F32);
    (a - b.cast(FloatDType::F32))
        .abs()
        .max()
        .into_scalar::<f32>()
}

#[test]
fn burns_attention_sees_what_tiles_see() {
    // Batch, key heads, query heads that share one, queries, keys, widths.
    for ([batch, kv_heads, share, queries, keys], [width, v_width]) in [
        ([1, 1, 1, 1, 1], [4, 4]),
        ([2, 2, 3, 5, 9], [6, 5]),
        ([1, 2, 2, 70, 70], [16, 16]),
        ([1, 3, 1, 66, 100], [16, 32]),
    ] {
        let q = random([batch, kv_heads * share, queries, width], DType::F32);
        let k = random([batch, kv_heads, keys, width], DType::F32);
        let v = random([batch, kv_heads, keys, v_width], DType::F32);
        let tiles = tiled::causal(q.clone(), k.clone(), v.clone(), None);
        let fused = fused::causal(q.clone(), k.clone(), v.clone());
        assert!(
            difference(fused, tiles.clone()) < finest(),
            "{queries} of {keys}"
        );
        // The first positions by one, the rest by the other.
        let first = queries / 2;
        let both = attention::split(q, k, v, None, first);
        assert!(
            difference(both, tiles) < finest(),
            "{first} of {queries} of {keys}"
        );
    }
}

#[test]
fn fused_kernels_are_for_half_precision_in_whole_tiles() {
    assert!(fused::fits(DType::F16, [64, 128]));
    assert!(fused::fits(DType::BF16, [16, 16]));
    assert!(!fused::fits(DType::F32, [64, 64]));
    assert!(!fused::fits(DType::F16, [64, 40]));
    let [q, k, v] = [(); 3].map(|_| random([1, 1, 130, 16], DType::F32));
    assert_eq!(fused::positions(&q, &k, &v, None), 0);
}

/// Every device but Flex runs half precision on tiles. Their softmax is in f32.
#[test]
fn tiles_in_half_precision() {
    let on_cpu_runtime = std::env::var("BURN_DEVICE").as_deref() == Ok("cpu");
    if on_cpu_runtime && cfg!(not(feature = "autotune")) {
        println!("skipped: without autotune Burn refuses some matmuls on CubeCL's CPU runtime");
        return;
    }
    for dtype in [DType::F16, DType::BF16] {
        if !crate::supports(&device(), dtype) {
            println!("skipped: no {dtype:?}");
            continue;
        }
        let finest = if dtype == DType::F16 { 2e-3 } else { 1.6e-2 };
        for ([queries, keys], window) in [([1, 9], None), ([70, 75], None), ([66, 66], Some(7))] {
            let q = random([2, 4, queries, 6], dtype);
            let k = random([2, 2, keys, 6], dtype);
            let v = random([2, 2, keys, 5], dtype);
            let run = |to: DType| {
                let leaf = |x: &Tensor<4>| {
                    Tensor::from_inner(x.clone().cast(FloatDType::from(to))).require_grad()
                };
                let (q, k, v) = (leaf(&q), leaf(&k), leaf(&v));
                let y = tiled::causal(q.clone(), k.clone(), v.clone(), window);
                assert_eq!(y.dtype(), to);
                let grads = y.clone().cast(FloatDType::F32).square().sum().backward();
                let of = [&q, &k, &v].map(|x| x.grad(&grads).unwrap());
                (y.inner(), of)
            };
            let ((y, of), (expected, expected_of)) = (run(dtype), run(DType::F32));
            assert!(difference(y, expected) < finest, "{dtype:?}, {queries}");
            for (actual, expected) in of.into_iter().zip(expected_of) {
                assert_eq!(actual.dtype(), dtype);
                let largest = expected.clone().abs().max().into_scalar::<f32>();
                let off = difference(actual, expected);
                assert!(
                    off < 4.0 * finest * largest,
                    "{dtype:?}, {queries}: {off} of {largest}"
                );
            }
        }
    }
}
