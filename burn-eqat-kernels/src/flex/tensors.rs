//! Tensors of the backend as slices, and back.

use super::cast::cast;
use super::matrix::{Matrix, Operand, Products};
use burn::backend::Flex;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{Bytes, DType, Shape, TensorData};
use burn_flex::{FlexTensor, Layout};
use std::borrow::Cow;

/// A float tensor as f32, one row after the other.
pub(super) struct Floats(FlexTensor);

impl Floats {
    pub fn new(tensor: FloatTensor<Flex>) -> Self {
        Floats(cast(tensor, DType::F32).to_contiguous())
    }

    /// As [`new`](Self::new), but left in bf16 where products take it so; for [`operand`](Self::operand) only.
    pub fn for_products(tensor: FloatTensor<Flex>, products: Products) -> Self {
        match products {
            #[cfg(target_arch = "x86_64")]
            Products::Bf16 if tensor.dtype() == DType::BF16 => Floats(tensor.to_contiguous()),
            _ => Self::new(tensor),
        }
    }

    pub fn values(&self) -> &[f32] {
        self.0.as_slice().expect("it was made contiguous, in f32")
    }

    /// A matrix of rows of `row` numbers.
    pub fn operand(&self, row: usize) -> Operand {
        #[cfg(target_arch = "x86_64")]
        if self.0.dtype() == DType::BF16 {
            let values = self.0.as_slice().expect("it was made contiguous, in bf16");
            return Operand::Bf16(Matrix::rows(values, row));
        }
        Operand::F32(Matrix::rows(self.values(), row))
    }
}

/// Words as `u32`, from any integer type.
pub(super) struct Words(FlexTensor);

impl Words {
    pub fn new(tensor: IntTensor<Flex>) -> Self {
        Words(tensor.to_contiguous())
    }

    pub fn values(&self) -> Cow<'_, [u32]> {
        const CONTIGUOUS: &str = "it was made contiguous";
        match self.0.dtype() {
            DType::U32 => Cow::Borrowed(self.0.as_slice().expect(CONTIGUOUS)),
            DType::I32 => {
                let words: &[i32] = self.0.as_slice().expect(CONTIGUOUS);
                Cow::Borrowed(bytemuck::cast_slice(words))
            }
            _ => {
                let words: &[i64] = self.0.as_slice().expect(CONTIGUOUS);
                Cow::Owned(words.iter().map(|word| *word as u32).collect())
            }
        }
    }
}

/// The shape of a tensor.
pub(super) fn shape(tensor: &FlexTensor) -> &[usize] {
    &tensor.layout().shape()[..]
}

/// An f32 tensor of zeros, to be filled in and [finished](finish). (Flex's own constructor makes zeros as bytes,
/// and then copies them to aligned memory.)
pub(super) fn zeros(shape: impl Into<Shape>) -> FlexTensor {
    let shape = shape.into();
    let values = vec![0f32; shape.num_elements()];
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        DType::F32,
    )
}

/// The values of a tensor made here.
pub(super) fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    tensor.storage_mut()
}

/// A result in the given type.
pub(super) fn finish(tensor: FlexTensor, dtype: DType) -> FloatTensor<Flex> {
    cast(tensor, dtype)
}

/// Codes as an integer tensor of the type of the words.
pub(super) fn codes(codes: Vec<i32>, shape: [usize; 2], dtype: DType) -> IntTensor<Flex> {
    let tensor = FlexTensor::from_data(TensorData::new(codes, shape));
    match dtype {
        DType::I32 => tensor,
        _ => Flex::int_cast(tensor, dtype.into()),
    }
}
