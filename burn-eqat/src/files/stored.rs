//! The layouts of a packed weight's words in files.
//!
//! All formats have codes in `qweight`, zero points in `qzeros` and step sizes in `scales`, with fields from
//! the low bit up. They differ in the fields of 3-bit words, in the meaning of a zero point's field, and in
//! the place of the scheme.

use crate::{GroupSize, Scheme};
use burn_eqat_kernels::{Bits, Fields, PackError, pack_codes, unpack_codes};
use std::num::NonZeroUsize;

/// The format of a packed checkpoint, by the program that writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// This project's: the layout of GPTQ, version 2.
    BurnEqat,
    /// GPTQ, version 1, which stores zero points minus one.
    GptqV1,
    /// GPTQ's second version.
    GptqV2,
    /// The EfficientQAT reference's: ten 3-bit fields a word, and no scheme in any file.
    EfficientQat,
}

/// The scheme of a packed weight and how its words are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub scheme: Scheme,
    pub format: Format,
}

/// Shapes of a packed weight's parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shapes {
    /// `[d_input, d_output]`.
    pub dense: [usize; 2],
    pub code_rows: usize,
    pub zero_columns: usize,
    pub groups: usize,
}

impl Stored {
    /// The scheme of a checkpoint of the EfficientQAT reference, from the shapes of its packed weights; `None` if
    /// no single scheme fits these shapes.
    ///
    /// Bits and group size must fit every weight. If every weight has one group per column, the group size is
    /// the column.
    pub fn from_shapes(weights: &[Shapes]) -> Option<Self> {
        let bits = Bits::ALL.into_iter().find(|bits| {
            weights.iter().all(|weight| {
                let words = |len| Fields::WholeWords.words(len, *bits);
                let [d_input, d_output] = weight.dense;
                let (codes, zeros) = (words(d_input), words(d_output));
                codes == weight.code_rows && zeros == weight.zero_columns
            })
        })?;
        let rows = |weight: &Shapes| weight.dense[0].checked_div(weight.groups);
        let first = rows(weights.first()?)?;
        let group = if weights.iter().all(|weight| weight.groups == 1) {
            GroupSize::Column
        } else {
            GroupSize::Rows(NonZeroUsize::new(first)?)
        };
        let fits = |weight: &Shapes| {
            weight.dense[0] == weight.groups * rows(weight).unwrap_or(0)
                && (group == GroupSize::Column || rows(weight) == Some(first))
        };
        weights.iter().all(fits).then_some(Stored {
            scheme: Scheme {
                bits,
                group,
                symmetric: false,
            },
            format: Format::EfficientQat,
        })
    }

    /// How fields lie in words.
    fn fields(self) -> Fields {
        match self.format {
            Format::EfficientQat => Fields::WholeWords,
            _ => Fields::Dense,
        }
    }

    /// Words that hold `len` fields.
    pub fn words(self, len: usize) -> usize {
        self.fields().words(len, self.scheme.bits)
    }

    /// The words of codes `[d_input, d_output]`, in this project's layout.
    pub fn codes(self, words: Vec<u32>, shape: [usize; 2]) -> Result<Vec<u32>, PackError> {
        if self.fields().words(160, self.scheme.bits) == self.scheme.bits.words(160) {
            return Ok(words);
        }
        /// A number of rows that fills whole words in both layouts.
        const ROWS: usize = 160;
        let [d_input, d_output] = shape;
        let mut converted = Vec::with_capacity(self.scheme.bits.words(d_input) * d_output);
        let step = self.words(ROWS) * d_output;
        for (at, words) in words.chunks(step.max(1)).enumerate() {
            let rows = (d_input - at * ROWS).min(ROWS);
            converted.extend(self.convert(words, [rows, d_output], 0, |code| code)?);
        }
        Ok(converted)
    }

    /// The words of zero points `[groups, d_output]`, in this project's layout.
    pub fn zeros(self, words: Vec<u32>, shape: [usize; 2]) -> Result<Vec<u32>, PackError> {
        let max = i64::from(self.scheme.bits.max_code());
        match self.format {
            Format::BurnEqat | Format::GptqV2 => Ok(words),
            // One less is stored, and 0 is the most that a field holds.
            Format::GptqV1 => self.convert(&words, shape, 1, |stored| (stored + 1) & max),
            Format::EfficientQat => self.convert(&words, shape, 1, |zero| zero),
        }
    }

    fn convert(
        self,
        words: &[u32],
        shape: [usize; 2],
        dim: usize,
        change: impl Fn(i64) -> i64,
    ) -> Result<Vec<u32>, PackError> {
        let bits = self.scheme.bits;
        let mut codes = unpack_codes(words, shape, dim, bits, self.fields())?;
        codes.iter_mut().for_each(|code| *code = change(*code));
        pack_codes(&codes, shape, dim, bits, Fields::Dense)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_counts_zero_points_from_one() {
        let stored = Stored {
            scheme: "w4g32".parse().unwrap(),
            format: Format::GptqV1,
        };
        // 7, 15 and 0 are stored where 8, 0 and 1 are meant.
        let zeros = stored.zeros(vec![0x0f7], [1, 3]).unwrap();
        assert_eq!(zeros, [0x108]);
    }

    #[test]
    fn ten_fields_a_word_become_a_stream() {
        let stored = of(&[([192, 3], 20, 1, 3)]).unwrap();
        assert_eq!(stored.scheme, "w3g64".parse().unwrap());
        let codes: Vec<i64> = (0..192 * 3).map(|i| i * 5 % 8).collect();
        let bits = Bits::Three;
        let words = pack_codes(&codes, [192, 3], 0, bits, Fields::WholeWords).unwrap();
        let expected = pack_codes(&codes, [192, 3], 0, bits, Fields::Dense).unwrap();
        assert_eq!(stored.codes(words, [192, 3]).unwrap(), expected);
    }

    fn of(weights: &[([usize; 2], usize, usize, usize)]) -> Option<Stored> {
        let shapes = weights
            .iter()
            .map(|(dense, code_rows, zero_columns, groups)| Shapes {
                dense: *dense,
                code_rows: *code_rows,
                zero_columns: *zero_columns,
                groups: *groups,
            });
        Stored::from_shapes(&shapes.collect::<Vec<_>>())
    }

    #[test]
    fn shapes_tell_the_scheme() {
        let name = |weights: &[_]| of(weights).map(|stored| stored.scheme.to_string());
        assert_eq!(name(&[([256, 32], 16, 2, 4)]).unwrap(), "w2g64");
        assert_eq!(name(&[([256, 32], 32, 4, 1)]).unwrap(), "w4g-1");
        // One group of 128 rows here, three there.
        let wide = ([384, 32], 24, 2, 3);
        assert_eq!(name(&[([128, 32], 8, 2, 1), wide]).unwrap(), "w2g128");
        assert_eq!(name(&[([128, 32], 8, 2, 2), wide]), None);
        // As many words of codes in 3 bits as in 4, but not of zero points.
        assert_eq!(name(&[([32, 64], 4, 8, 1)]).unwrap(), "w4g-1");
        assert_eq!(name(&[([256, 32], 17, 2, 4)]), None);
        assert_eq!(name(&[([256, 32], 16, 2, 3)]), None);
        assert_eq!(name(&[([256, 32], 16, 2, 0)]), None);
        assert_eq!(name(&[]), None);
    }
}
