use crate::PackError;
use burn::tensor::DType;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// An op that cannot run. The error comes before anything is launched.
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
    /// The shape of an operand does not fit the other operands.
    #[error("{op}: {operand} has shape {actual:?}, expected {expected:?}")]
    Operand {
        /// The op that refused.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// Its shape.
        actual: Vec<usize>,
        /// The shape that fits the other operands.
        expected: Vec<usize>,
    },
    /// The op does not support a size.
    #[error("{op}: {size} is {actual}, expected {expected}")]
    Size {
        /// The op that refused.
        op: &'static str,
        /// Which size.
        size: &'static str,
        /// Its value.
        actual: usize,
        /// The values that the op supports.
        expected: String,
    },
    /// An operand is not a matrix.
    #[error("{op}: {operand} has shape {actual:?}, expected two axes")]
    Axes {
        /// The op that refused.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// Its shape.
        actual: Vec<usize>,
    },
    /// The device does not compute with the type of an operand.
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
    /// A code does not fit in its bits, for example because a weight, step size or zero point is NaN.
    #[error("{op}: {error}")]
    Pack {
        /// The op that refused.
        op: &'static str,
        /// Which code.
        #[source]
        error: PackError,
    },
    /// A tensor of the op is larger than one buffer of the device, or than kernels can address.
    #[error("{op}: {operand} takes {bytes} bytes, but a buffer of {device} holds at most {limit}")]
    Buffer {
        /// The op that refused.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// Its size, in bytes.
        bytes: u64,
        /// The largest size that one buffer can hold and kernels can address, in bytes.
        limit: u64,
        /// The device.
        device: String,
    },
}

thread_local! {
    /// The depth of nested [`OpError::catch`] calls on this thread.
    static CATCHING: Cell<usize> = const { Cell::new(0) };
}

impl OpError {
    /// Leaves a function that cannot return an error, such as a module's `forward`.
    ///
    /// Inside [`catch`](Self::catch), that call returns the error. Elsewhere this is a panic with the error's message.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_eqat_kernels::{Bits, OpError, PackedWeight};
    ///
    /// fn forward(weight: &PackedWeight, x: Tensor<2>) -> Tensor<2> {
    ///     weight.linear(x, None).unwrap_or_else(|error| error.raise())
    /// }
    ///
    /// let device = Device::flex();
    /// let ones = |shape: [usize; 2]| Tensor::<2>::ones(shape, &device);
    /// let weight = PackedWeight::quantize(ones([64, 16]), ones([2, 16]), ones([2, 16]), Bits::Four)?;
    /// // 60 columns do not fit 64 rows.
    /// let result = OpError::catch(|| forward(&weight, ones([3, 60])));
    /// assert!(result.is_err());
    /// # Ok::<(), OpError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// Always.
    pub fn raise(self) -> ! {
        if CATCHING.get() == 0 {
            panic!("{self}");
        }
        // This skips the panic hook: nothing is printed for an error that the caller gets.
        resume_unwind(Box::new(self))
    }

    /// Runs `body`, and returns the error that an op in it [raised](Self::raise) on this thread.
    ///
    /// Calls nest: the innermost one gets the error. Other panics continue.
    ///
    /// ```
    /// use burn_eqat_kernels::OpError;
    ///
    /// let error = OpError::Groups { op: "example", d_input: 10, groups: 3 };
    /// assert_eq!(OpError::catch(|| 1), Ok(1));
    /// assert_eq!(OpError::catch(|| error.clone().raise()), Err::<(), _>(error));
    /// ```
    ///
    /// # Errors
    ///
    /// The error that was raised.
    pub fn catch<R>(body: impl FnOnce() -> R) -> Result<R, OpError> {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                CATCHING.set(CATCHING.get() - 1);
            }
        }
        CATCHING.set(CATCHING.get() + 1);
        let leave = Leave;
        // `body` may leave state half changed: it is dropped with `body`, or the caller's concern, as after any error.
        let result = catch_unwind(AssertUnwindSafe(body));
        drop(leave);
        result.map_err(|payload| match payload.downcast::<OpError>() {
            Ok(error) => *error,
            Err(other) => resume_unwind(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(groups: usize) -> OpError {
        OpError::Groups {
            op: "test",
            d_input: 10,
            groups,
        }
    }

    #[test]
    fn a_raised_error_is_caught() {
        assert_eq!(OpError::catch(|| 3), Ok(3));
        assert_eq!(OpError::catch(|| error(3).raise()), Err::<(), _>(error(3)));
    }

    #[test]
    fn catches_nest() {
        let outer = OpError::catch(|| {
            assert_eq!(OpError::catch(|| error(3).raise()), Err::<(), _>(error(3)));
            error(4).raise()
        });
        assert_eq!(outer, Err::<(), _>(error(4)));
    }

    #[test]
    fn other_panics_go_through() {
        let other = catch_unwind(|| OpError::catch(|| panic!("of another kind"))).unwrap_err();
        assert_eq!(other.downcast_ref(), Some(&"of another kind"));
        assert_eq!(CATCHING.get(), 0);
    }

    #[test]
    fn nothing_catches_outside_of_a_catch() {
        let payload = catch_unwind(|| error(3).raise()).unwrap_err();
        let message = payload.downcast_ref::<String>().expect("a message");
        assert_eq!(message, &error(3).to_string());
        // Nor on another thread than the one that catches.
        OpError::catch(|| {
            let thread = std::thread::spawn(|| error(3).raise()).join();
            assert!(thread.unwrap_err().is::<String>());
        })
        .unwrap();
    }
}
