//! Unpacks words to codes, as integers.

use crate::Bits;

/// Codes `[len, n]` of words packed along the rows.
pub(super) fn unpack(words: &[u32], bits: Bits, [len, n]: [usize; 2]) -> Vec<i32> {
    let mut codes = Vec::with_capacity(len * n);
    let b = bits.get();
    for i in 0..len {
        let (at, shift) = (i * b / 32, i * b % 32);
        let low = &words[at * n..][..n];
        if shift + b > 32 {
            let both = low.iter().zip(&words[(at + 1) * n..][..n]);
            codes.extend(both.map(|(low, high)| {
                ((low >> shift | high << (32 - shift)) & bits.max_code()) as i32
            }));
        } else {
            codes.extend(low.iter().map(|w| (w >> shift & bits.max_code()) as i32));
        }
    }
    codes
}

/// Codes `[rows, len]` of words packed along the columns.
pub(super) fn unpack_columns(words: &[u32], bits: Bits, [rows, len]: [usize; 2]) -> Vec<i32> {
    let mut codes = Vec::with_capacity(rows * len);
    for row in 0..rows {
        let line = &words[row * bits.words(len)..][..bits.words(len)];
        codes.extend(unpack(line, bits, [len, 1]));
    }
    codes
}
