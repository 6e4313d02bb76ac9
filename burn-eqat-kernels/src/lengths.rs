//! Lengths of operands, checked in the bodies of backends.
//!
//! The functions of this crate check operands before they call a backend, but the backend trait is public and safe:
//! whoever calls it with operands that do not fit together gets a panic that says so, never a read out of bounds.

use crate::error::{expect_groups, expect_shape};
use crate::{Bits, OpError};

/// Panics with the message of an error.
fn checked(result: Result<(), OpError>) {
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Panics unless `operand` is of the `expected` shape.
pub(crate) fn operand(
    op: &'static str,
    operand: &'static str,
    actual: &[usize],
    expected: &[usize],
) {
    checked(expect_shape(op, operand, actual, expected));
}

/// The sizes of a matrix. Panics where `shape` is of another rank.
pub(crate) fn matrix(op: &'static str, operand: &'static str, shape: &[usize]) -> [usize; 2] {
    match *shape {
        [rows, columns] => [rows, columns],
        _ => panic!("{op}: {operand} has shape {shape:?}, expected a matrix"),
    }
}

/// Panics unless codes and step sizes are those of a packed weight of `d_input` rows.
pub(crate) fn packed(
    op: &'static str,
    codes: &[usize],
    scales: &[usize],
    bits: Bits,
    d_input: usize,
) {
    let [groups, n] = matrix(op, "scales", scales);
    checked(expect_groups(op, d_input, groups));
    operand(op, "codes", codes, &[bits.words(d_input), n]);
}

/// Panics unless step sizes and zero points are those of groups of a dense weight.
pub(crate) fn grouped(op: &'static str, w: &[usize], scales: &[usize], zero_points: &[usize]) {
    let ([k, n], [groups, _]) = (matrix(op, "w", w), matrix(op, "scales", scales));
    checked(expect_groups(op, k, groups));
    operand(op, "scales", scales, &[groups, n]);
    operand(op, "zero_points", zero_points, &[groups, n]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "codes has shape [5, 3], expected [6, 3]")]
    fn a_word_too_few_is_seen() {
        packed("a test", &[5, 3], &[2, 3], Bits::Three, 64);
    }

    #[test]
    #[should_panic(expected = "do not divide")]
    fn a_group_that_does_not_divide_is_seen() {
        grouped("a test", &[10, 3], &[3, 3], &[3, 3]);
    }

    #[test]
    #[should_panic(expected = "scales has shape [4], expected a matrix")]
    fn another_rank_is_seen() {
        packed("a test", &[4, 3], &[4], Bits::Four, 32);
    }

    #[test]
    fn what_fits_passes() {
        packed("a test", &[6, 3], &[2, 3], Bits::Three, 64);
        grouped("a test", &[10, 3], &[5, 3], &[5, 3]);
    }
}
