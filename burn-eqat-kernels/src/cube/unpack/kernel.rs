//! Kernels that turn words into codes.
//!
//! - Supports: 2, 3, 4 and 8 bits, every number of rows and columns.
//! - Refuses: nothing.
//! - Work: one unit unpacks one block of words (16, 32, 8 or 4 codes) of one column vector, or of one
//!   row if words are packed along the columns.

use crate::block::Block;
use crate::cube::words::{EXPONENT, WeightSizes, block_codes, load_block};
use burn_cubecl::cubecl;
use cubecl::prelude::*;

#[cube(launch_unchecked)]
pub(crate) fn unpack_kernel<I: Int, N: Size>(
    words: &[Vector<u32, N>],
    out: &mut [Vector<I, N>],
    weight: WeightSizes,
    total: usize,
    #[comptime] block: Block,
    #[define(I)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    let at = ABSOLUTE_POS / weight.vectors;
    let column = ABSOLUTE_POS % weight.vectors;
    let loaded = load_block::<N>(words, &weight, at, column, block, false);
    let codes = block_codes::<N>(&loaded, weight.exponent, block);
    #[unroll]
    for i in 0..block.fields {
        let row = at * block.fields + i;
        if row < weight.rows {
            out[row * weight.vectors + column] = Vector::cast_from(codes[i]);
        }
    }
}

/// Unpacks words that are packed along the columns of `out [rows, len]`; one unit unpacks one block.
#[cube(launch_unchecked)]
pub(crate) fn unpack_columns_kernel<T: Numeric, N: Size>(
    words: &[Vector<u32, N>],
    out: &mut [Vector<T, N>],
    len: usize,
    row_words: usize,
    blocks: usize,
    total: usize,
    #[comptime] block: Block,
    #[define(T)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= total {
        terminate!();
    }
    let row = ABSOLUTE_POS / blocks;
    let at = ABSOLUTE_POS % blocks;
    // A row is a weight of one column, whose words lie side by side.
    let column = WeightSizes {
        rows: len,
        word_rows: row_words,
        vectors: 1,
        group: len,
        exponent: EXPONENT,
    };
    let loaded = load_block::<N>(words, &column, at, row * row_words, block, false);
    let codes = block_codes::<N>(&loaded, column.exponent, block);
    #[unroll]
    for i in 0..block.fields {
        let place = at * block.fields + i;
        if place < len {
            out[row * len + place] = Vector::cast_from(codes[i]);
        }
    }
}
