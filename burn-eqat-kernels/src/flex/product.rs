//! The result of a product while it is computed.

use super::matrix::{Out, Products};
use super::tensors::finish;
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, Shape, bf16};
use burn_flex::{FlexTensor, Layout};

/// Memory for the result of a product, which the product writes, all of it.
///
/// In bf16 the last pass rounds what it writes, where products can. Sums in f32 are then kept between passes only.
pub(super) struct Product {
    sides: [usize; 2],
    dtype: DType,
    sums: Vec<f32>,
    rounded: Option<Vec<bf16>>,
}

impl Product {
    /// For products of so many passes, whose result is wanted in this type.
    pub fn new(products: Products, sides: [usize; 2], dtype: DType, passes: usize) -> Self {
        let len = sides[0] * sides[1];
        let rounds = dtype == DType::BF16 && products != Products::F32;
        let kept = if rounds && passes <= 1 { 0 } else { len };
        Product {
            sides,
            dtype,
            sums: Vec::with_capacity(kept),
            rounded: rounds.then(|| Vec::with_capacity(len)),
        }
    }

    /// What each row begins with, in place of zeros.
    pub fn with_bias(mut self, bias: &[f32]) -> Self {
        assert_eq!(
            bias.len(),
            self.sides[1],
            "a bias has a number for each column"
        );
        self.sums.reserve_exact(self.sides[0] * self.sides[1]);
        for _ in 0..self.sides[0] {
            self.sums.extend_from_slice(bias);
        }
        self
    }

    /// Whether there is something to add to.
    pub fn adds(&self) -> bool {
        !self.sums.is_empty()
    }

    /// Where the product goes. Valid until the result is finished.
    pub fn out(&mut self) -> Out {
        let [rows, row] = self.sides;
        let out = Out::sums(self.sums.as_mut_ptr(), row);
        match &mut self.rounded {
            // A dangling pointer is not null, but there is nothing to write.
            Some(rounded) if rows * row > 0 => out.rounded_to(rounded.as_mut_ptr()),
            _ => out,
        }
    }

    /// The result, in its type.
    ///
    /// # Safety
    ///
    /// A product wrote all of [`out`](Self::out).
    pub unsafe fn finish(mut self) -> FloatTensor<Flex> {
        let len = self.sides[0] * self.sides[1];
        let layout = Layout::contiguous(Shape::new(self.sides));
        // SAFETY: all were written, and there is room for so many.
        unsafe {
            if let Some(mut rounded) = self.rounded {
                rounded.set_len(len);
                return FlexTensor::new(Bytes::from_elems(rounded), layout, DType::BF16);
            }
            self.sums.set_len(len);
        }
        finish(
            FlexTensor::new(Bytes::from_elems(self.sums), layout, DType::F32),
            self.dtype,
        )
    }
}
