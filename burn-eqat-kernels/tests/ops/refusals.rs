//! Unsupported types and sizes are errors before anything is launched.

use crate::{device, is_cube};
use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_eqat_kernels::{AffineWeight, Bits, OpError, fake_quantize, multiplies, supports, unpack};

#[test]
fn a_type_that_the_device_lacks() {
    let device = device();
    if !is_cube(&device) {
        println!("skipped: the device has every float type");
        return;
    }
    // Kernels compute in f32, so f64 is refused wherever they run.
    assert!(!supports(&device, DType::F64));
    let lacks = [DType::BF16, DType::F16, DType::F64]
        .into_iter()
        .filter(|dtype| !supports(&device, *dtype));
    for dtype in lacks {
        let of = |shape: [usize; 2]| {
            let data = TensorData::zeros::<f32, _>(shape).convert_dtype(dtype);
            Tensor::<2>::from_data(data, (&device, dtype))
        };
        let error = fake_quantize(of([32, 4]), of([1, 4]), of([1, 4]), Bits::Two).unwrap_err();
        match error {
            OpError::Type {
                op: "fake_quantize",
                operand: "weight",
                dtype: named,
                ..
            } => assert_eq!(named, dtype),
            other => panic!("{other}"),
        }
    }
}

/// Sizes for which a kernel of Burn's needs most memory: a multiple of the lanes of a CPU's vectors.
#[test]
fn a_type_that_is_said_to_multiply_does() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !multiplies(&device(), dtype) {
            println!("skipped: {dtype:?}");
            continue;
        }
        let ones = |shape: [usize; 2]| Tensor::<2>::ones(shape, (&device(), dtype));
        let sums = ones([5, 64]).matmul(ones([64, 32])).into_data();
        let sums = sums.convert_dtype(DType::F32);
        assert!(sums.iter::<f32>().all(|sum| sum == 64.0), "{sums}");
    }
}

#[test]
fn a_result_larger_than_a_buffer() {
    let device = device();
    if !is_cube(&device) {
        println!("skipped: the device has no buffer limit");
        return;
    }
    // Small operands, and a result of 2^40 elements (of which the device computes none).
    let size = 1 << 20;
    let s = Tensor::<2>::zeros([1, size], &device);
    let x = Tensor::<2>::zeros([size, 1], &device);
    let words = Tensor::<2, Int>::zeros([1, size], &device);
    let weight = |codes, scales: Tensor<2>, d_input| AffineWeight {
        codes,
        zero_points: scales.clone(),
        scales,
        bits: Bits::Two,
        d_input,
    };
    let error = weight(words, s, 1).linear(x, None).unwrap_err();
    match &error {
        OpError::Buffer {
            op: "linear",
            operand: "y",
            bytes,
            limit,
            ..
        } => assert!(*bytes == 1 << 42 && limit < bytes, "{error}"),
        other => panic!("{other}"),
    }

    // A weight whose words fit where it does not itself.
    let (k, n) = (1 << 17, 1 << 18);
    let words = Tensor::<2, Int>::zeros([1, n], &device).expand([k / 16, n]);
    let s = Tensor::<2>::zeros([1, n], &device);
    let error = weight(words, s, k).dequantize().unwrap_err();
    assert!(
        matches!(
            error,
            OpError::Buffer {
                op: "dequantize",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn words_of_fewer_bits() {
    let words = Tensor::<2, Int>::zeros([2, 3], (&device(), DType::I8));
    let error = unpack(words, Bits::Four, 16).unwrap_err();
    assert!(
        matches!(
            error,
            OpError::Type {
                op: "unpack",
                operand: "codes",
                dtype: DType::I8,
                ..
            }
        ),
        "{error}"
    );
}
