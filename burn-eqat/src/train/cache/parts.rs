//! A value of [`Flow`](crate::train::Flow) as tensors on the host.

use burn::tensor::TensorData;
use std::collections::VecDeque;

/// A value of [`Flow`](crate::train::Flow) taken apart: its tensors on the host, in order, and of its options and lists how
/// many values they hold. It is put together again from the front.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::train::{Flow, FlowParts};
///
/// type State = (Tensor<2>, Option<Tensor<1>>);
///
/// let device = Device::flex();
/// let state: State = (Tensor::ones([2, 3], &device), Some(Tensor::zeros([4], &device)));
/// let mut parts = FlowParts::default();
/// state.clone().take_apart(&mut parts)?;
/// let again = State::put_together(&mut parts, &device)?;
/// parts.finish()?;
/// assert_eq!(again.0.into_data(), state.0.into_data());
/// # Ok::<(), burn_eqat::train::FlowError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowParts {
    parts: VecDeque<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// Values that an option or a list holds; they follow.
    Count(u64),
    Tensor(TensorData),
}

/// Parts that are not those of the value asked for, or that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FlowError(String);

impl FlowError {
    /// An error with that message.
    pub fn new(message: impl ToString) -> Self {
        FlowError(message.to_string())
    }
}

impl FlowParts {
    /// Adds a tensor.
    pub fn push_tensor(&mut self, data: TensorData) {
        self.parts.push_back(Part::Tensor(data));
    }

    /// Adds the number of values that an option or a list holds, before these.
    pub fn push_count(&mut self, count: usize) {
        self.parts.push_back(Part::Count(count as u64));
    }

    /// Adds all parts to a hash.
    pub(in crate::train) fn digest(self, hasher: &mut crc32fast::Hasher) {
        for part in self.parts {
            match part {
                Part::Count(count) => hasher.update(&count.to_le_bytes()),
                Part::Tensor(data) => hasher.update(data.as_bytes()),
            }
        }
    }

    /// The next part, a tensor.
    ///
    /// # Errors
    ///
    /// When it is something else, or there is no part left.
    pub fn take_tensor(&mut self) -> Result<TensorData, FlowError> {
        match self.parts.pop_front() {
            Some(Part::Tensor(data)) => Ok(data),
            Some(Part::Count(count)) => {
                let message = format!("holds a count of {count}, expected a tensor");
                Err(FlowError(message))
            }
            None => Err(FlowError::new("ends where a tensor is expected")),
        }
    }

    /// The next part, a number of values.
    ///
    /// # Errors
    ///
    /// When it is something else, or there is no part left.
    pub fn take_count(&mut self) -> Result<usize, FlowError> {
        match self.parts.pop_front() {
            Some(Part::Count(count)) => {
                usize::try_from(count).map_err(|_| FlowError(format!("counts {count} values")))
            }
            Some(Part::Tensor(data)) => {
                let shape = data.shape();
                Err(FlowError(format!(
                    "holds a tensor {shape:?}, expected a count"
                )))
            }
            None => Err(FlowError::new("ends where a count is expected")),
        }
    }

    /// Ends putting together.
    ///
    /// # Errors
    ///
    /// When parts are left.
    pub fn finish(self) -> Result<(), FlowError> {
        match self.parts.len() {
            0 => Ok(()),
            left => Err(FlowError(format!("holds {left} parts more than expected"))),
        }
    }

    pub(super) fn push(&mut self, part: Part) {
        self.parts.push_back(part);
    }

    pub(super) fn into_inner(self) -> VecDeque<Part> {
        self.parts
    }
}
