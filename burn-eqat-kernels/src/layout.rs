//! Packing on the host: codes to 32-bit words and back.
//!
//! One routine packs in both directions: a matrix is `outer` lines, each a run of `len` codes with a
//! stride between neighbours. Weights are packed along their rows (dim 0, stride `n`), zero points
//! along their columns (dim 1, stride 1).

use crate::Bits;

/// Codes or words that cannot be packed or unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A code does not fit in its bits.
    #[error("code {code} at [{row}, {column}] does not fit in {bits} bits (0 to {max})", max = bits.max_code())]
    Code {
        /// The code.
        code: i64,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// The width of a field.
        bits: Bits,
    },
    /// The buffer does not have the size of the matrix.
    #[error("{len} elements do not make a [{rows}, {columns}] matrix")]
    Length {
        /// Elements in the buffer.
        len: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
    },
}

/// The layout of the fields in the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// One dense bit stream, so that a field may lie across two words. This is GPTQ's layout and this
    /// project's.
    Dense,
    /// As many whole fields as fit in a word (ten of 3 bits); its other bits are unused. This is the layout of
    /// the EfficientQAT reference. For 2, 4 and 8 bits it is the same as the dense one.
    WholeWords,
}

impl Fields {
    /// Word and shift of field `i`.
    fn place(self, i: usize, bits: Bits) -> (usize, usize) {
        let b = bits.get();
        match self {
            Fields::Dense => (i * b / 32, i * b % 32),
            Fields::WholeWords => (i / (32 / b), i % (32 / b) * b),
        }
    }

    /// The number of words for `len` fields.
    pub fn words(self, len: usize, bits: Bits) -> usize {
        match self {
            Fields::Dense => bits.words(len),
            Fields::WholeWords => len.div_ceil(32 / bits.get()),
        }
    }
}

/// The positions of a matrix's codes: `outer` lines of `len` codes.
struct Lines {
    outer: usize,
    len: usize,
    outer_stride: usize,
    stride: usize,
}

impl Lines {
    fn along([rows, columns]: [usize; 2], dim: usize) -> Self {
        match dim {
            0 => Lines {
                outer: columns,
                len: rows,
                outer_stride: 1,
                stride: columns,
            },
            _ => Lines {
                outer: rows,
                len: columns,
                outer_stride: columns,
                stride: 1,
            },
        }
    }

    fn at(&self, line: usize, i: usize) -> usize {
        line * self.outer_stride + i * self.stride
    }
}

fn check_len(len: usize, [rows, columns]: [usize; 2]) -> Result<(), PackError> {
    match rows.checked_mul(columns) {
        Some(expected) if expected == len => Ok(()),
        _ => Err(PackError::Length { len, rows, columns }),
    }
}

fn packed_shape(shape: [usize; 2], dim: usize, bits: Bits, fields: Fields) -> [usize; 2] {
    let mut packed = shape;
    packed[dim.min(1)] = fields.words(shape[dim.min(1)], bits);
    packed
}

/// Packs a row-major matrix of codes along `dim` (0: along the rows, for weights; 1: along the
/// columns, for zero points).
///
/// ```
/// use burn_eqat_kernels::{Bits, Fields, pack_codes};
///
/// // A column of eleven codes takes 33 bits.
/// let codes = [7; 11];
/// let dense = pack_codes(&codes, [11, 1], 0, Bits::Three, Fields::Dense)?;
/// assert_eq!(dense, [0xffff_ffff, 1]);
/// // Ten codes in a word, and two bits unused.
/// let whole = pack_codes(&codes, [11, 1], 0, Bits::Three, Fields::WholeWords)?;
/// assert_eq!(whole, [0x3fff_ffff, 7]);
/// # Ok::<(), burn_eqat_kernels::PackError>(())
/// ```
///
/// # Errors
///
/// When `codes` does not have that `shape`, or a code is not in `0..=bits.max_code()`.
pub fn pack_codes<T: Copy + Into<i64>>(
    codes: &[T],
    shape: [usize; 2],
    dim: usize,
    bits: Bits,
    fields: Fields,
) -> Result<Vec<u32>, PackError> {
    check_len(codes.len(), shape)?;
    let from = Lines::along(shape, dim);
    let packed = packed_shape(shape, dim, bits, fields);
    let to = Lines::along(packed, dim);
    let mut words = vec![0u32; packed[0] * packed[1]];
    for line in 0..from.outer {
        for i in 0..from.len {
            let at = from.at(line, i);
            let code: i64 = codes[at].into();
            if code < 0 || code > i64::from(bits.max_code()) {
                return Err(PackError::Code {
                    code,
                    row: at / shape[1],
                    column: at % shape[1],
                    bits,
                });
            }
            let (word, shift) = fields.place(i, bits);
            let field = (code as u64) << shift;
            words[to.at(line, word)] |= field as u32;
            if shift + bits.get() > 32 {
                words[to.at(line, word + 1)] |= (field >> 32) as u32;
            }
        }
    }
    Ok(words)
}

/// Unpacks words that [`pack_codes`] made into a row-major matrix of codes of the given `shape`.
///
/// ```
/// use burn_eqat_kernels::{Bits, Fields, unpack_codes};
///
/// // Zero points of one group and three columns, packed along the columns.
/// let zero_points = unpack_codes(&[0x987], [1, 3], 1, Bits::Four, Fields::Dense)?;
/// assert_eq!(zero_points, [7, 8, 9]);
/// # Ok::<(), burn_eqat_kernels::PackError>(())
/// ```
///
/// # Errors
///
/// When the number of words does not fit the shape.
pub fn unpack_codes(
    words: &[u32],
    shape: [usize; 2],
    dim: usize,
    bits: Bits,
    fields: Fields,
) -> Result<Vec<i64>, PackError> {
    let packed = packed_shape(shape, dim, bits, fields);
    check_len(words.len(), packed)?;
    let to = Lines::along(shape, dim);
    let from = Lines::along(packed, dim);
    let mut codes = vec![0i64; shape[0] * shape[1]];
    for line in 0..to.outer {
        for i in 0..to.len {
            let (word, shift) = fields.place(i, bits);
            let mut field = u64::from(words[from.at(line, word)]) >> shift;
            if shift + bits.get() > 32 {
                field |= u64::from(words[from.at(line, word + 1)]) << (32 - shift);
            }
            codes[to.at(line, i)] = (field & u64::from(bits.max_code())) as i64;
        }
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_run_from_the_low_bit_up() {
        let words = pack_codes(&[1, 2, 3, 0], [4, 1], 0, Bits::Two, Fields::Dense).unwrap();
        assert_eq!(words, [0b00_11_10_01]);
        let words = pack_codes(&[1, 2, 3, 0], [2, 2], 1, Bits::Four, Fields::Dense).unwrap();
        assert_eq!(words, [0x21, 0x03]);
    }

    #[test]
    fn three_bits_cross_words() {
        let mut codes = vec![0i64; 32];
        codes[10] = 0b101; // bits 30, 31 and 32
        let words = pack_codes(&codes, [32, 1], 0, Bits::Three, Fields::Dense).unwrap();
        assert_eq!(words, [1 << 30, 1, 0]);
    }

    #[test]
    fn a_code_too_large_is_named() {
        let error = pack_codes(&[0, 0, 0, 4], [2, 2], 0, Bits::Two, Fields::Dense).unwrap_err();
        assert_eq!(
            error.to_string(),
            "code 4 at [1, 1] does not fit in 2 bits (0 to 3)"
        );
        assert!(pack_codes(&[-1], [1, 1], 0, Bits::Eight, Fields::Dense).is_err());
        assert!(pack_codes(&[0; 3], [2, 2], 0, Bits::Two, Fields::Dense).is_err());
        assert!(unpack_codes(&[0; 3], [16, 2], 0, Bits::Two, Fields::Dense).is_err());
    }

    proptest! {
        #[test]
        fn unpacking_gives_back_what_was_packed(
            rows in 1usize..70, columns in 1usize..9, dim in 0usize..2, width in 0usize..4,
            whole: bool, seed: u64,
        ) {
            let fields = if whole { Fields::WholeWords } else { Fields::Dense };
            let bits = Bits::ALL[width];
            let codes: Vec<i64> = (0..rows * columns)
                .map(|i| {
                    let mixed = (i as u64 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
                    (mixed % (u64::from(bits.max_code()) + 1)) as i64
                })
                .collect();
            let shape = [rows, columns];
            let words = pack_codes(&codes, shape, dim, bits, fields).unwrap();
            prop_assert_eq!(unpack_codes(&words, shape, dim, bits, fields).unwrap(), codes);
        }
    }
}
