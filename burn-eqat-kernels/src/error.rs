/// Operands whose shapes do not fit together; nothing was computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The rows of a weight do not divide evenly into the groups of its step sizes.
    #[error("{op}: {d_input} input rows do not divide into {groups} groups")]
    Groups {
        /// The op that refused.
        op: &'static str,
        /// Rows of the weight.
        d_input: usize,
        /// Rows of the step sizes.
        groups: usize,
    },
    /// An operand has another shape than the rest of the operands ask for.
    #[error("{op}: {operand} has shape {actual:?}, expected {expected:?}")]
    Operand {
        /// The op that refused.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// Its shape.
        actual: Vec<usize>,
        /// The shape that the other operands ask for.
        expected: Vec<usize>,
    },
}

/// Fails unless `operand` has the `expected` shape.
pub(crate) fn expect_shape(
    op: &'static str,
    operand: &'static str,
    actual: &[usize],
    expected: &[usize],
) -> Result<(), ShapeError> {
    if actual == expected {
        return Ok(());
    }
    Err(ShapeError::Operand {
        op,
        operand,
        actual: actual.to_vec(),
        expected: expected.to_vec(),
    })
}

/// Fails unless `groups` divides `d_input` (an empty weight has no groups).
pub(crate) fn expect_groups(
    op: &'static str,
    d_input: usize,
    groups: usize,
) -> Result<(), ShapeError> {
    if groups != 0 && d_input.is_multiple_of(groups) {
        return Ok(());
    }
    Err(ShapeError::Groups {
        op,
        d_input,
        groups,
    })
}
