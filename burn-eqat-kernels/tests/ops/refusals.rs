//! What a device cannot do is refused before anything is launched.

use crate::device;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_eqat_kernels::{Bits, OpError, dequantize, fake_quantize, quant_linear};

/// Whether the tested device is one of CubeCL's: those say who they are.
#[cfg(feature = "cube")]
fn is_cube(device: &Device) -> bool {
    device.identity().is_some()
}

#[cfg(not(feature = "cube"))]
fn is_cube(_device: &Device) -> bool {
    false
}

#[test]
fn a_type_that_the_device_lacks() {
    let device = device();
    let lacks: Vec<DType> = [DType::BF16, DType::F16, DType::F64]
        .into_iter()
        .filter(|dtype| !device.supports_dtype(*dtype))
        .collect();
    if !is_cube(&device) || lacks.is_empty() {
        println!("skipped: the device has every float type");
        return;
    }
    for dtype in lacks {
        let of = |shape: [usize; 2]| {
            let data = TensorData::zeros::<f32, _>(shape).convert_dtype(dtype);
            Tensor::<2>::from_data(data, (&device, dtype))
        };
        let error = fake_quantize(of([32, 4]), of([1, 4]), of([1, 4]), Bits::Two).unwrap_err();
        match error {
            OpError::Type {
                op: "fake_quantize",
                operand: "w",
                dtype: named,
                ..
            } => assert_eq!(named, dtype),
            other => panic!("{other}"),
        }
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
    let error = quant_linear(x, words, s.clone(), s, None, Bits::Two).unwrap_err();
    match &error {
        OpError::Buffer {
            op: "quant_linear",
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
    let error = dequantize(words, s.clone(), s, Bits::Two, k).unwrap_err();
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
