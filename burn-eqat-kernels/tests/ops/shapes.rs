//! Operands whose shapes do not fit together are errors that name them.

use crate::device;
use burn::tensor::{Int, Tensor};
use burn_eqat_kernels::{AffineWeight, Bits, OpError, PackedWeight, fake_quantize, unpack};

fn zeros(shape: [usize; 2]) -> Tensor<2> {
    Tensor::zeros(shape, &device())
}

/// A weight with `d_input` rows and four columns in `groups` groups, and `words` rows of words.
fn weight(words: usize, groups: usize, d_input: usize) -> AffineWeight {
    AffineWeight {
        codes: Tensor::zeros([words, 4], &device()),
        scales: zeros([groups, 4]),
        zero_points: zeros([groups, 4]),
        bits: Bits::Two,
        d_input,
    }
}

fn message(result: Result<Tensor<2>, OpError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_group_that_does_not_divide() {
    let error = message(fake_quantize(
        zeros([10, 4]),
        zeros([3, 4]),
        zeros([3, 4]),
        Bits::Two,
    ));
    assert_eq!(
        error,
        "fake_quantize: 10 input rows do not divide into 3 groups"
    );
    let error = message(weight(1, 3, 10).linear(zeros([1, 10]), None));
    assert_eq!(error, "linear: 10 input rows do not divide into 3 groups");
}

#[test]
fn an_operand_of_another_shape() {
    let error = message(fake_quantize(
        zeros([9, 4]),
        zeros([3, 5]),
        zeros([3, 5]),
        Bits::Two,
    ));
    assert!(
        error.contains("scales has shape [3, 5], expected [3, 4]"),
        "{error}"
    );

    let error = message(weight(2, 1, 40).dequantize());
    assert!(
        error.contains("codes has shape [2, 4], expected [3, 4]"),
        "{error}"
    );
    let bias = Some(Tensor::<1>::zeros([5], &device()));
    let error = message(weight(2, 1, 32).linear(zeros([3, 32]), bias));
    assert!(
        error.contains("bias has shape [5], expected [4]"),
        "{error}"
    );
    let error = message(weight(2, 1, 32).linear(zeros([3, 31]), None));
    assert!(
        error.contains("x has shape [3, 31], expected [3, 32]"),
        "{error}"
    );
    assert!(unpack(weight(2, 1, 32).codes, Bits::Two, 33).is_err());
}

#[test]
fn parts_of_a_packed_weight() {
    let words = |shape: [usize; 2]| Tensor::<2, Int>::zeros(shape, &device());
    let parts = |codes, scales, zero_points| {
        let (codes, zero_points) = (words(codes), words(zero_points));
        PackedWeight::from_parts(codes, zeros(scales), zero_points, Bits::Two, 32)
    };
    let packed = parts([2, 17], [4, 17], [4, 2]).unwrap();
    assert_eq!(packed.d_output(), 17);
    assert!(parts([2, 17], [4, 17], [4, 1]).is_err());
    assert!(parts([2, 17], [4, 17], [4, 17]).is_err());
    assert!(parts([3, 17], [4, 17], [4, 2]).is_err());
    assert!(parts([2, 17], [5, 17], [5, 2]).is_err());
    // Fields are public, so a weight is checked again where it is used.
    let mut broken = packed;
    broken.d_input = 64;
    assert!(broken.dequantize().is_err());
    assert!(broken.linear(zeros([1, 64]), None).is_err());
}
