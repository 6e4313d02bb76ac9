//! Some columns of a packed weight.

use super::{AffineWeight, PackedWeight};
use crate::{OpError, unpack_columns};
use burn::tensor::{Int, Tensor};

/// Columns whose fields of any width end with a word.
const BLOCK: i64 = 32;

impl PackedWeight {
    /// The dense columns of these indices, `(q - z) s`, in the type of the step sizes: an embedding whose table is packed has a token in each
    /// column. No other column is unpacked.
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Int, Tensor};
    /// use burn_eqat_kernels::{Bits, PackedWeight};
    ///
    /// let device = Device::flex();
    /// let table = Tensor::<2>::random([64, 50], Distribution::Default, &device);
    /// let scales = Tensor::full([2, 50], 0.004, &device);
    /// let zero_points = Tensor::zeros([2, 50], &device);
    /// let packed = PackedWeight::quantize(table, scales, zero_points, Bits::Eight)?;
    ///
    /// let tokens = Tensor::<1, Int>::from_data([49, 3, 3], &device);
    /// let columns = packed.columns(tokens.clone())?;
    /// assert_eq!(columns.into_data(), packed.dequantize()?.select(1, tokens).into_data());
    /// # Ok::<(), burn_eqat_kernels::OpError>(())
    /// ```
    ///
    /// # Shapes
    ///
    /// - `columns`: `[n]`, each below `d_output`; others are as the backend's `select` has them
    /// - output: `[d_input, n]`
    ///
    /// # Errors
    ///
    /// When the shapes do not fit together, or the device lacks a type of the operands or room for the result.
    pub fn columns(&self, columns: Tensor<1, Int>) -> Result<Tensor<2>, OpError> {
        self.expect_valid("PackedWeight::columns")?;
        let zero_points = self.zero_points_of(columns.clone())?;
        let part = AffineWeight {
            codes: self.codes.clone().select(1, columns.clone()),
            zero_points: zero_points.float().cast(self.scales.dtype()),
            scales: self.scales.clone().select(1, columns),
            bits: self.bits,
            d_input: self.d_input,
        };
        part.dequantize()
    }

    /// The zero points of some columns, `[groups, n]`.
    fn zero_points_of(&self, columns: Tensor<1, Int>) -> Result<Tensor<2, Int>, OpError> {
        let ([n], [_, words]) = (columns.dims(), self.zero_points.dims());
        let bits = self.bits.get() as i64;
        let options = (&columns.device(), columns.dtype());
        // As many words as there are bits hold the block of a column; the last block may have fewer, and no columns in the others.
        let first = columns.clone().div_scalar(BLOCK).mul_scalar(bits);
        let each = Tensor::<1, Int>::arange(0..bits, options).unsqueeze::<2>();
        let places = (first.unsqueeze_dim::<2>(1) + each).clamp_max(words as i64 - 1);
        let blocks = self.zero_points.clone().select(1, places.flatten(0, 1));
        let zero_points = unpack_columns(blocks, self.bits, n * BLOCK as usize)?;
        let begins = Tensor::<1, Int>::arange_step(0..n as i64 * BLOCK, BLOCK as usize, options);
        Ok(zero_points.select(1, begins + columns.remainder_scalar(BLOCK)))
    }
}
