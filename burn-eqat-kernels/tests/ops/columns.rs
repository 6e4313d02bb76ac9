//! Columns of a packed weight are those of the dense one, and so are those of several side by side.

use crate::device;
use burn::tensor::{Int, Tensor, TensorData};
use burn_eqat_kernels::{Bits, OpError, PackedWeight, pack, pack_columns};

/// A weight whose codes, zero points and step sizes are not those of its neighbours.
fn numbered([k, n]: [usize; 2], groups: usize, bits: Bits) -> PackedWeight {
    let device = device();
    let most = bits.max_code() as usize;
    let numbers = |rows: usize, step: usize| {
        let numbers = (0..rows * n).map(move |i| (i * step % (most + 1)) as i64);
        Tensor::<2, Int>::from_data(TensorData::new(numbers.collect(), [rows, n]), &device)
    };
    let scales: Vec<f32> = (0..groups * n).map(|i| 0.1 + i as f32 / 64.0).collect();
    PackedWeight::from_parts(
        pack(numbers(k, 7), bits).unwrap(),
        Tensor::from_data(TensorData::new(scales, [groups, n]), &device),
        pack_columns(numbers(groups, 5), bits).unwrap(),
        bits,
        k,
    )
    .unwrap()
}

#[test]
fn columns_of_every_width() {
    let device = device();
    let [k, groups] = [36, 3];
    // Widths that end with a block of words, within one, and within the first word.
    for n in [64, 45, 33, 32, 5, 1] {
        for bits in Bits::ALL {
            let weight = numbered([k, n], groups, bits);
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

#[test]
fn weights_side_by_side_are_those_of_each() {
    // Zero points of whole words, and words that several weights share.
    for widths in [&[64, 32, 96, 5][..], &[5, 64, 1, 33], &[7]] {
        for bits in Bits::ALL {
            let weights: Vec<_> = (widths.iter())
                .map(|n| numbered([36, *n], 3, bits))
                .collect();
            let all = PackedWeight::cat(&weights).unwrap();
            let dense = weights.iter().map(|weight| weight.dequantize().unwrap());
            assert_eq!(
                all.dequantize().unwrap().into_data(),
                Tensor::cat(dense.collect(), 1).into_data(),
                "{bits:?}, {widths:?}"
            );
        }
    }
}

#[test]
fn weights_of_several_kinds_are_not_put_side_by_side() {
    let first = numbered([36, 5], 3, Bits::Two);
    for other in [
        numbered([36, 5], 3, Bits::Three),
        numbered([36, 5], 2, Bits::Two),
        numbered([48, 5], 3, Bits::Two),
    ] {
        let refused = PackedWeight::cat(&[first.clone(), other]);
        assert!(
            matches!(refused, Err(OpError::Operand { .. } | OpError::Size { .. })),
            "{refused:?}"
        );
    }
}
