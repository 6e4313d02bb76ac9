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

    /// The size of the first dimension of the tensors. `None` where they differ in it, or have none.
    pub(super) fn rows(&self) -> Option<usize> {
        let mut dims = self.parts.iter().filter_map(|part| match part {
            Part::Count(_) => None,
            Part::Tensor(data) => Some(data.shape().first().copied()),
        });
        let rows = dims.next()??;
        dims.all(|dim| dim == Some(rows)).then_some(rows)
    }

    /// Gives out what each of so many rows has: its own bytes of the tensors that have as many, and all of the others, with their types
    /// and shapes.
    pub(super) fn each_row(&self, rows: usize, take: &mut dyn FnMut(usize, &[u8])) {
        let all = |bytes: &[u8], take: &mut dyn FnMut(usize, &[u8])| {
            (0..rows).for_each(|row| take(row, bytes));
        };
        for part in &self.parts {
            match part {
                Part::Count(count) => all(&count.to_le_bytes(), take),
                Part::Tensor(data) => {
                    let (shape, bytes) = (data.shape(), data.as_bytes());
                    let own = shape.first() == Some(&rows);
                    let about = format!("{:?} {:?}", data.dtype(), &shape[usize::from(own)..]);
                    all(about.as_bytes(), take);
                    if !own {
                        all(bytes, take);
                        continue;
                    }
                    let size = bytes.len() / rows.max(1);
                    for row in 0..rows {
                        take(row, &bytes[row * size..][..size]);
                    }
                }
            }
        }
    }

    /// The same for each index of the first dimension of the tensors. `None` where they differ in that dimension, or have none.
    pub(super) fn into_rows(self) -> Option<Vec<FlowParts>> {
        let rows = self.rows()?;
        let mut apart = vec![FlowParts::default(); rows];
        for part in self.parts {
            match part {
                Part::Count(count) => {
                    for row in &mut apart {
                        row.push(Part::Count(count));
                    }
                }
                Part::Tensor(data) => {
                    let mut shape = data.shape().to_vec();
                    shape[0] = 1;
                    let (bytes, dtype) = (data.as_bytes(), data.dtype());
                    let size = bytes.len() / rows.max(1);
                    for (index, row) in apart.iter_mut().enumerate() {
                        let bytes = bytes[index * size..][..size].to_vec();
                        row.push_tensor(TensorData::from_bytes_vec(bytes, shape.clone(), dtype));
                    }
                }
            }
        }
        Some(apart)
    }

    /// The parts of which these are the [rows](Self::into_rows); `None` where they are of different shapes.
    pub(super) fn from_rows(rows: Vec<FlowParts>) -> Option<Self> {
        let count = rows.len();
        let mut rows: Vec<_> = rows.into_iter().map(|row| row.parts.into_iter()).collect();
        let mut parts = FlowParts::default();
        while let Some(first) = rows.first_mut().and_then(Iterator::next) {
            let mut others = rows[1..].iter_mut().map(Iterator::next);
            match first {
                Part::Count(number) => {
                    if !others.all(|other| other == Some(Part::Count(number))) {
                        return None;
                    }
                    parts.push(Part::Count(number));
                }
                Part::Tensor(data) => {
                    let (mut shape, dtype) = (data.shape().to_vec(), data.dtype());
                    let mut bytes = data.as_bytes().to_vec();
                    bytes.reserve(bytes.len() * (count - 1));
                    for other in others {
                        match other {
                            Some(Part::Tensor(other))
                                if other.shape().to_vec() == shape && other.dtype() == dtype =>
                            {
                                bytes.extend_from_slice(other.as_bytes());
                            }
                            _ => return None,
                        }
                    }
                    *shape.first_mut()? *= count;
                    parts.push_tensor(TensorData::from_bytes_vec(bytes, shape, dtype));
                }
            }
        }
        Some(parts)
    }

    /// Gives out all that they hold, part by part.
    pub(in crate::train) fn each_bytes(&self, take: &mut dyn FnMut(&[u8])) {
        for part in &self.parts {
            match part {
                Part::Count(count) => take(&count.to_le_bytes()),
                Part::Tensor(data) => take(data.as_bytes()),
            }
        }
    }

    pub(super) fn push(&mut self, part: Part) {
        self.parts.push_back(part);
    }

    pub(super) fn into_inner(self) -> VecDeque<Part> {
        self.parts
    }
}
