//! Columns of a packed weight are those of the dense one.

use crate::device;
use burn::tensor::{Int, Tensor, TensorData};
use burn_eqat_kernels::{Bits, OpError, PackedWeight, pack, pack_columns};

#[test]
fn columns_of_every_width() {
    let device = device();
    let [k, groups] = [36, 3];
    // Widths that end with a block of words, within one, and within the first word.
    for n in [64, 45, 33, 32, 5, 1] {
        for bits in Bits::ALL {
            let most = bits.max_code() as usize;
            let numbers =
                |len: usize, step: usize| (0..len).map(move |i| (i * step % (most + 1)) as i64);
            let codes = numbers(k * n, 7).collect();
            let zero_points = numbers(groups * n, 5).collect();
            let scales: Vec<f32> = (0..groups * n).map(|i| 0.1 + i as f32 / 64.0).collect();
            let codes = Tensor::<2, Int>::from_data(TensorData::new(codes, [k, n]), &device);
            let zero_points =
                Tensor::<2, Int>::from_data(TensorData::new(zero_points, [groups, n]), &device);
            let weight = PackedWeight::from_parts(
                pack(codes, bits).unwrap(),
                Tensor::from_data(TensorData::new(scales, [groups, n]), &device),
                pack_columns(zero_points, bits).unwrap(),
                bits,
                k,
            )
            .unwrap();
            let last = n as i64 - 1;
            for columns in [
                vec![last],
                vec![0, last / 2, last, last],
                (0..=last).rev().collect(),
            ] {
                let len = columns.len();
                let columns = Tensor::<1, Int>::from_data(TensorData::new(columns, [len]), &device);
                let expected = weight.dequantize().unwrap().select(1, columns.clone());
                let columns = weight.columns(columns).unwrap();
                assert_eq!(
                    columns.into_data(),
                    expected.into_data(),
                    "{bits:?}, {n} columns"
                );
            }
        }
    }
}

#[test]
fn a_weight_that_does_not_fit_together_is_refused() {
    let device = device();
    let mut weight = PackedWeight::from_parts(
        Tensor::zeros([1, 5], &device),
        Tensor::ones([1, 5], &device),
        Tensor::zeros([1, 1], &device),
        Bits::Two,
        16,
    )
    .unwrap();
    weight.scales = Tensor::ones([1, 6], &device);
    let columns = Tensor::<1, Int>::zeros([1], &device);
    let refused = weight.columns(columns);
    assert!(
        matches!(refused, Err(OpError::Operand { .. })),
        "{refused:?}"
    );
}
