use burn::tensor::DType;

/// An op that cannot be done; it is refused before anything is launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
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
    /// An operand is of a type that the device does not compute with.
    #[error("{op}: {operand} is of type {dtype:?}, which {device} does not support")]
    Type {
        /// The op that refused.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// Its type.
        dtype: DType,
        /// The device.
        device: String,
    },
    /// A tensor of the op is larger than the device can hold in one buffer, or address.
    #[error("{op}: {operand} takes {bytes} bytes, more than the {limit} of a buffer of {device}")]
    Buffer {
        /// The op that refused.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// Its size, in bytes.
        bytes: u64,
        /// The most that the device can hold in one buffer, and kernels can address, in bytes.
        limit: u64,
        /// The device.
        device: String,
    },
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

/// Fails unless `groups` divides `d_input`, and there are rows to divide.
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
