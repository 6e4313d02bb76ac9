//! Heads of attention in memory.

use super::super::matrix::Matrix;
use super::super::parallel::Shared;
use super::super::tensors;
use burn::tensor::Shape;
use burn_flex::FlexTensor;

/// A tensor `[batch, heads, positions, width]` in memory, in any order of the first three axes, with the numbers of a
/// head contiguous.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    first: Shared,
    /// Strides of the first three axes.
    strides: [usize; 3],
    pub batch: usize,
    pub heads: usize,
    pub positions: usize,
    pub width: usize,
}

/// A tensor that [`Heads`] can read: the tensor itself if its last axis is contiguous.
pub(super) fn readable(tensor: FlexTensor) -> FlexTensor {
    let strides = tensor.layout().strides();
    if strides[3] == 1 && strides.iter().all(|stride| *stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A tensor of zeros in memory order `[batch, positions, heads, width]`, which is the order of projections'
/// inputs and outputs.
pub(super) fn zeros([batch, heads, positions, width]: [usize; 4]) -> FlexTensor {
    let shape = Shape::new([batch, positions, heads, width]);
    tensors::zeros(shape).permute(&[0, 2, 1, 3])
}

impl Heads {
    /// Heads of a [`readable`] tensor, for reading.
    pub fn reading(tensor: &FlexTensor) -> Self {
        let first = &tensor.storage::<f32>()[tensor.layout().start_offset()..];
        Self::new(tensor, Shared::reading(first))
    }

    /// Heads of a tensor of [`zeros`], for writing.
    pub fn writing(tensor: &mut FlexTensor) -> Self {
        let first = Shared::new(tensor.storage_mut());
        Self::new(tensor, first)
    }

    fn new(tensor: &FlexTensor, first: Shared) -> Self {
        let (shape, strides) = (tensor.layout().shape(), tensor.layout().strides());
        Heads {
            first,
            strides: [0, 1, 2].map(|side| strides[side] as usize),
            batch: shape[0],
            heads: shape[1],
            positions: shape[2],
            width: shape[3],
        }
    }

    /// The numbers of a head at a position.
    pub fn at(&self, batch: usize, head: usize, position: usize) -> *mut f32 {
        let [by_batch, by_head, by_position] = self.strides;
        let at = batch * by_batch + head * by_head + position * by_position;
        self.first.at(at)
    }

    /// The positions of a head from `position` on, as rows.
    pub fn matrix(&self, batch: usize, head: usize, position: usize) -> Matrix {
        Matrix {
            first: self.at(batch, head, position),
            row: self.stride(),
            column: 1,
        }
    }

    /// The stride between positions.
    pub fn stride(&self) -> usize {
        self.strides[2]
    }
}
