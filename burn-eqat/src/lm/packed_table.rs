//! An output layer from a packed weight, which may be the embedding as well.

use super::head::tile;
use crate::compute_type::widen;
use crate::{GroupSize, InferenceConfig, Scheme, SchemeError, min_max_start, searched_start};
use burn::tensor::{DType, Int, Tensor};
use burn_eqat_kernels::{Bits, OpError, PackedWeight, RepackedCopy};

/// Columns that are rounded at a time, at most so many numbers; whole words of zero points.
const NUMBERS: usize = 1 << 22;

/// The output layer of a language model, rounded and packed for inference. Tied embeddings are read from the same words.
///
/// Training leaves the output layer and the embedding as they are. In a small model of few bits they are most of its bytes, and every new
/// token reads all of the output layer. At 8 bits that is a quarter of what f32 has to read, and the logits are almost the same; `w4g32` is
/// smaller still, for a price. At 8 bits the range of a group is that of its weights and 0, at fewer bits it is
/// [searched](searched_start), which takes some seconds for large tables.
///
/// ```
/// use burn::tensor::{Device, Distribution, Int, Tensor};
/// use burn_eqat::lm::{PackedTable, head_logits};
///
/// let device = Device::flex();
/// // An embedding of 50 tokens, `[vocab, width]`.
/// let embedding = Tensor::<2>::random([50, 64], Distribution::Default, &device);
/// let table = PackedTable::new(embedding.clone().transpose(), &"w8g32".parse()?)?;
///
/// let hidden = table.embed(Tensor::<2, Int>::from_data([[7, 49]], &device))?;
/// assert_eq!(hidden.dims(), [1, 2, 64]);
/// let logits = table.logits(hidden.clone())?;
/// let dense = head_logits(hidden, embedding.transpose());
/// assert!((logits - dense).abs().max().into_scalar::<f32>() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PackedTable {
    weight: PackedWeight,
    copy: RepackedCopy,
}

impl PackedTable {
    /// Rounds a table.
    ///
    /// # Shapes
    ///
    /// - `table`: `[width, vocab]`, an output layer, or an embedding transposed
    ///
    /// # Errors
    ///
    /// When the group size does not divide the width.
    ///
    /// # Panics
    ///
    /// When the table has no column, or the device has not the memory.
    pub fn new(table: Tensor<2>, scheme: &Scheme) -> Result<Self, SchemeError> {
        let [width, vocab] = table.dims();
        scheme.groups(width)?;
        let columns = (NUMBERS / width.max(1)).max(1).next_multiple_of(32);
        let mut parts = Vec::new();
        for first in (0..vocab).step_by(columns) {
            let part = tile(&table, first..vocab.min(first + columns), DType::F32);
            let (scales, zero_points) = match scheme.bits {
                Bits::Eight => range_start(part.clone(), scheme)?,
                _ => searched_start(part.clone(), None, scheme)?,
            };
            let part = PackedWeight::quantize(part, scales, zero_points, scheme.bits);
            parts.push(part.unwrap_or_else(|error| error.raise()));
        }
        // All parts but the last end with a word.
        let weight = PackedWeight::cat(&parts);
        Ok(Self {
            weight: weight.unwrap_or_else(|error| error.raise()),
            copy: RepackedCopy::default(),
        })
    }

    /// Logits from the input of the output layer, in f32.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[batch, seq, width]`, the output of the last norm
    /// - output: `[batch, seq, vocab]`
    ///
    /// # Errors
    ///
    /// When `hidden` has another width.
    pub fn logits(&self, hidden: Tensor<3>) -> Result<Tensor<3>, OpError> {
        let weight = self.weight.clone();
        let weight = match InferenceConfig::current().repack_weights {
            true => weight.keep_copy_in(&self.copy),
            false => weight,
        };
        weight.linear(widen(hidden), None)
    }

    /// Embeddings of tokens, in f32: of a table that is an embedding, transposed.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, seq]`, each below `vocab`
    /// - output: `[batch, seq, width]`
    ///
    /// # Errors
    ///
    /// When the device lacks room for the result.
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Result<Tensor<3>, OpError> {
        let [batch, seq] = tokens.dims();
        let columns = self.weight.columns(tokens.reshape([batch * seq]))?;
        Ok(columns
            .transpose()
            .reshape([batch, seq, self.weight.d_input]))
    }

    /// The table that the packed one stands for, `[width, vocab]`, in f32.
    ///
    /// # Errors
    ///
    /// When the device lacks room for it.
    pub fn dequantize(&self) -> Result<Tensor<2>, OpError> {
        self.weight.dequantize()
    }
}

/// Step sizes and zero points of the range of each group with 0 in it: a zero point is one of the codes, so of a range without 0, the far
/// end would be cut off.
fn range_start(weight: Tensor<2>, scheme: &Scheme) -> Result<(Tensor<2>, Tensor<2>), SchemeError> {
    let [width, vocab] = weight.dims();
    let groups = scheme.groups(width)?;
    let weight: Tensor<3> = weight.reshape([groups, width / groups, vocab]);
    let max = weight.clone().max_dim(1).clamp_min(0.0);
    let min = weight.min_dim(1).clamp_max(0.0);
    let ends = Tensor::cat(vec![max, min], 1).reshape([2 * groups, vocab]);
    let of_ends = Scheme {
        group: GroupSize::rows(2),
        ..*scheme
    };
    min_max_start(ends, &of_ends)
}

#[cfg(test)]
mod tests {
    use super::super::head_logits;
    use super::*;
    use burn::tensor::{Device, FloatDType, TensorData};
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    /// `[width, vocab]`, of the size of an embedding.
    fn table(width: usize, vocab: usize) -> Tensor<2> {
        let mut random = StdRng::seed_from_u64(vocab as u64);
        let numbers = (0..width * vocab).map(|_| random.random_range(-0.1..0.1_f32));
        let numbers = TensorData::new(numbers.collect(), [width, vocab]);
        Tensor::from_data(numbers, &Device::flex())
    }

    /// The root of the mean square.
    fn size(of: Tensor<3>) -> f32 {
        of.square().mean().sqrt().into_scalar()
    }

    #[test]
    fn what_is_packed_is_near_the_table() {
        let device = Device::flex();
        // The second is in parts.
        for [width, vocab] in [[64, 45], [64, 70_001]] {
            let dense = table(width, vocab);
            let hidden = table(3, width).reshape([1, 3, width]) * 10.0;
            let tokens = [[0, vocab as i64 / 2, vocab as i64 - 1]];
            let tokens = Tensor::<2, Int>::from_data(tokens, &device);
            for (scheme, most) in [("w8g32", 0.01), ("w4g32", 0.12), ("w3g64", 0.3)] {
                if vocab > 1000 && scheme != "w8g32" {
                    continue;
                }
                let packed = PackedTable::new(dense.clone(), &scheme.parse().unwrap()).unwrap();
                let logits = packed.logits(hidden.clone()).unwrap();
                let exact = head_logits(hidden.clone(), dense.clone());
                let error = size(logits.clone() - exact.clone()) / size(exact);
                assert!(error < most, "{scheme}: the logits are off by {error}");

                let stands_for = packed.dequantize().unwrap();
                let same = head_logits(hidden.clone(), stands_for.clone());
                assert!(size(logits - same.clone()) < 1e-5 * size(same), "{scheme}");
                let columns = stands_for.select(1, tokens.clone().reshape([3]));
                let embedded = packed.embed(tokens.clone()).unwrap();
                let expected = columns.transpose().reshape([1, 3, width]);
                assert_eq!(embedded.into_data(), expected.into_data(), "{scheme}");
            }
        }
    }

    #[test]
    fn groups_of_one_sign_are_not_cut_off() {
        for scheme in ["w8g32", "w8g32-sym"] {
            for sign in [1.0, -1.0] {
                let dense = (table(64, 45) + 0.3) * sign;
                let packed = PackedTable::new(dense.clone(), &scheme.parse().unwrap()).unwrap();
                let error = (packed.dequantize().unwrap() - dense).abs().max();
                // Half a step of a range of at most 0.4, on either side of 0 if it is symmetric.
                assert!(error.into_scalar::<f32>() < 0.00161, "{scheme}");
            }
        }
    }

    #[test]
    fn a_table_and_hidden_states_in_half_precision() {
        let dense = table(64, 45).cast(FloatDType::BF16);
        let packed = PackedTable::new(dense, &"w8g32".parse().unwrap()).unwrap();
        let hidden = table(3, 64).reshape([1, 3, 64]).cast(FloatDType::BF16);
        assert_eq!(packed.logits(hidden).unwrap().dtype(), DType::F32);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let scheme: Scheme = "w8g64".parse().unwrap();
        assert!(PackedTable::new(table(96, 5), &scheme).is_err());
        let packed = PackedTable::new(table(64, 5), &scheme).unwrap();
        assert!(packed.logits(table(3, 32).reshape([1, 3, 32])).is_err());
    }
}
