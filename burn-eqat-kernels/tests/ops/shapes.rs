//! Operands whose shapes do not fit together are refused with their names.

use crate::device;
use burn::tensor::{Int, Tensor};
use burn_eqat_kernels::{Bits, OpError, dequantize, fake_quantize, quant_linear, unpack};

fn zeros(shape: [usize; 2]) -> Tensor<2> {
    Tensor::zeros(shape, &device())
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
    let words = Tensor::<2, Int>::zeros([1, 4], &device());
    let error = message(quant_linear(
        zeros([1, 10]),
        words,
        zeros([3, 4]),
        zeros([3, 4]),
        None,
        Bits::Two,
    ));
    assert_eq!(
        error,
        "quant_linear: 10 input rows do not divide into 3 groups"
    );
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
        error.contains("s has shape [3, 5], expected [3, 4]"),
        "{error}"
    );

    let words = Tensor::<2, Int>::zeros([2, 4], &device());
    let error = message(dequantize(
        words.clone(),
        zeros([1, 4]),
        zeros([1, 4]),
        Bits::Two,
        40,
    ));
    assert!(
        error.contains("words has shape [2, 4], expected [3, 4]"),
        "{error}"
    );
    let bias = Some(Tensor::<1>::zeros([5], &device()));
    let error = message(quant_linear(
        zeros([3, 32]),
        words.clone(),
        zeros([1, 4]),
        zeros([1, 4]),
        bias,
        Bits::Two,
    ));
    assert!(
        error.contains("bias has shape [5], expected [4]"),
        "{error}"
    );
    assert!(unpack(words, Bits::Two, 33).is_err());
}
