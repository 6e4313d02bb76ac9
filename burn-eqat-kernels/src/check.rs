//! Checks that the operands of an op fit together, on plain sizes.
//!
//! The ops on tensors return these errors. A backend's body checks again, because safe code can call
//! [`QuantOps`](crate::QuantOps) directly: [`required`] raises the error before anything is read from memory.

use crate::{Bits, OpError};

/// The result of a check; raises the error if there is one.
pub(crate) fn required<T>(checked: Result<T, OpError>) -> T {
    checked.unwrap_or_else(|error| error.raise())
}

/// Fails unless `operand` has the `expected` shape.
pub(crate) fn expect_shape(
    op: &'static str,
    operand: &'static str,
    actual: &[usize],
    expected: &[usize],
) -> Result<(), OpError> {
    if actual == expected {
        return Ok(());
    }
    Err(OpError::Operand {
        op,
        operand,
        actual: actual.to_vec(),
        expected: expected.to_vec(),
    })
}

/// Fails unless `groups` divides `d_input`, and both are above zero.
pub(crate) fn expect_groups(
    op: &'static str,
    d_input: usize,
    groups: usize,
) -> Result<(), OpError> {
    if groups != 0 && d_input != 0 && d_input.is_multiple_of(groups) {
        return Ok(());
    }
    Err(OpError::Groups {
        op,
        d_input,
        groups,
    })
}

/// Fails unless the size is `right`; the error says what was `expected`.
pub(crate) fn expect_size(
    op: &'static str,
    size: &'static str,
    actual: usize,
    right: bool,
    expected: impl FnOnce() -> String,
) -> Result<(), OpError> {
    if right {
        return Ok(());
    }
    Err(OpError::Size {
        op,
        size,
        actual,
        expected: expected(),
    })
}

/// The sides of a matrix. Fails if a tensor has other than two axes, or more elements than can be addressed.
pub(crate) fn expect_matrix(
    op: &'static str,
    operand: &'static str,
    shape: &[usize],
) -> Result<[usize; 2], OpError> {
    let &[rows, columns] = shape else {
        return Err(OpError::Axes {
            op,
            operand,
            actual: shape.to_vec(),
        });
    };
    // 8 bytes are the widest element.
    let most = isize::MAX as usize / 8;
    if rows
        .checked_mul(columns)
        .is_none_or(|elements| elements > most)
    {
        return Err(OpError::Buffer {
            op,
            operand,
            bytes: u64::MAX,
            limit: isize::MAX as u64,
            device: "the address space".into(),
        });
    }
    Ok([rows, columns])
}

/// Fails unless step sizes and zero points, both as numbers, fit a weight `[d_input, d_output]`.
///
/// Returns `[groups, d_output]`.
pub(crate) fn expect_quantizer(
    op: &'static str,
    weight: &[usize],
    scales: &[usize],
    zero_points: &[usize],
) -> Result<[usize; 2], OpError> {
    let [d_input, d_output] = expect_matrix(op, "weight", weight)?;
    let [groups, _] = expect_matrix(op, "scales", scales)?;
    expect_groups(op, d_input, groups)?;
    expect_shape(op, "scales", scales, &[groups, d_output])?;
    expect_shape(op, "zero_points", zero_points, &[groups, d_output])?;
    Ok([groups, d_output])
}

/// The shape of a packed weight's zero points.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ZeroPointShape<'a> {
    /// Numbers, one for each group and column.
    Numbers(&'a [usize]),
    /// Words along the columns.
    Packed(&'a [usize]),
}

/// The shapes of the tensors of a packed weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedShapes<'a> {
    pub codes: &'a [usize],
    pub scales: &'a [usize],
    pub zero_points: ZeroPointShape<'a>,
    pub bits: Bits,
    pub d_input: usize,
}

impl PackedShapes<'_> {
    /// Fails unless the shapes fit together. Returns `[groups, d_output]`.
    pub fn expect(&self, op: &'static str) -> Result<[usize; 2], OpError> {
        let [groups, d_output] = expect_matrix(op, "scales", self.scales)?;
        expect_groups(op, self.d_input, groups)?;
        let words = [self.bits.words(self.d_input), d_output];
        expect_shape(op, "codes", self.codes, &words)?;
        expect_matrix(op, "the dense weight", &[self.d_input, d_output])?;
        match self.zero_points {
            ZeroPointShape::Numbers(shape) => {
                expect_shape(op, "zero_points", shape, &[groups, d_output])?;
            }
            ZeroPointShape::Packed(shape) => {
                let words = [groups, self.bits.words(d_output)];
                expect_shape(op, "zero_points", shape, &words)?;
            }
        }
        Ok([groups, d_output])
    }
}

/// Fails unless `codes` is the shape of the words of `len` rows. Returns the number of columns.
pub(crate) fn expect_words(
    op: &'static str,
    codes: &[usize],
    bits: Bits,
    len: usize,
) -> Result<usize, OpError> {
    let [_, columns] = expect_matrix(op, "codes", codes)?;
    expect_shape(op, "codes", codes, &[bits.words(len), columns])?;
    expect_matrix(op, "the unpacked codes", &[len, columns])?;
    Ok(columns)
}

/// Fails unless `codes` is the shape of the words of `len` columns. Returns the number of rows.
pub(crate) fn expect_column_words(
    op: &'static str,
    codes: &[usize],
    bits: Bits,
    len: usize,
) -> Result<usize, OpError> {
    let [rows, _] = expect_matrix(op, "codes", codes)?;
    expect_shape(op, "codes", codes, &[rows, bits.words(len)])?;
    expect_matrix(op, "the unpacked codes", &[rows, len])?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: PackedShapes = PackedShapes {
        codes: &[2, 5],
        scales: &[3, 5],
        zero_points: ZeroPointShape::Packed(&[3, 1]),
        bits: Bits::Two,
        d_input: 24,
    };

    fn message(shapes: PackedShapes) -> String {
        shapes.expect("test").unwrap_err().to_string()
    }

    #[test]
    fn shapes_of_one_weight() {
        assert_eq!(SHAPES.expect("test").unwrap(), [3, 5]);
        let zero_points = ZeroPointShape::Numbers(&[3, 5]);
        assert!(
            PackedShapes {
                zero_points,
                ..SHAPES
            }
            .expect("test")
            .is_ok()
        );
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        let codes = &[1, 5];
        let error = message(PackedShapes { codes, ..SHAPES });
        assert_eq!(error, "test: codes has shape [1, 5], expected [2, 5]");
        let scales = &[3, 4];
        let error = message(PackedShapes { scales, ..SHAPES });
        assert_eq!(error, "test: codes has shape [2, 5], expected [2, 4]");
        let zero_points = ZeroPointShape::Packed(&[3, 5]);
        let error = message(PackedShapes {
            zero_points,
            ..SHAPES
        });
        assert_eq!(error, "test: zero_points has shape [3, 5], expected [3, 1]");
        let scales = &[15];
        let error = message(PackedShapes { scales, ..SHAPES });
        assert_eq!(error, "test: scales has shape [15], expected two axes");
        let scales = &[5, 5];
        let error = message(PackedShapes { scales, ..SHAPES });
        assert_eq!(error, "test: 24 input rows do not divide into 5 groups");
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let d_input = 1 << 62;
        let shapes = PackedShapes {
            codes: &[1 << 57, 4],
            scales: &[1, 4],
            zero_points: ZeroPointShape::Numbers(&[1, 4]),
            bits: Bits::Two,
            d_input,
        };
        assert!(shapes.expect("test").is_err());
        assert!(expect_words("test", &[0, 4], Bits::Four, d_input).is_err());
        assert!(expect_matrix("test", "x", &[usize::MAX, 2]).is_err());
    }
}
