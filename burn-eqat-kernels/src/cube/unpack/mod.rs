//! Launches of the unpacking kernels.

pub(in crate::cube) mod kernel;

use crate::Bits;
use crate::block::Block;
use crate::cube::limits::elem;
use crate::cube::plan::column::ColumnPlan;
use crate::cube::plan::limits::Limits;
use crate::cube::tensors::{column_width, dims, elementwise, empty, word_rows};
use crate::cube::words::sizes;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use kernel::{unpack_columns_kernel, unpack_kernel};

/// The codes `[len, n]` of words, in the type of the words.
pub(crate) fn unpack(codes: CubeTensor, bits: Bits, len: usize, limits: &Limits) -> CubeTensor {
    let dtype = codes.dtype;
    let codes = word_rows(codes);
    let [word_rows, n] = dims(&codes);
    let block = Block::of(bits);
    let width = column_width(n, limits);
    let out = empty(&codes, [len, n], dtype);
    let plan = ColumnPlan::new(block.blocks(len), n, width);
    if plan.total == 0 {
        return out;
    }
    let (count, dim) = elementwise(&out, plan.total);
    // SAFETY: units past `total` return; rows past `len` are not written, words past the last not read.
    unsafe {
        unpack_kernel::launch_unchecked(
            &out.client,
            count,
            dim,
            width,
            codes.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            sizes(len, word_rows, plan.vectors, len),
            plan.total,
            block,
            elem(dtype),
        );
    }
    out
}

/// The codes `[rows, len]` of words that are packed along the columns, in `dtype`.
pub(crate) fn unpack_columns(
    codes: CubeTensor,
    bits: Bits,
    len: usize,
    dtype: DType,
) -> CubeTensor {
    let codes = word_rows(codes);
    let [rows, row_words] = dims(&codes);
    let block = Block::of(bits);
    let out = empty(&codes, [rows, len], dtype);
    let blocks = block.blocks(len);
    let total = rows * blocks;
    if total == 0 {
        return out;
    }
    let (count, dim) = elementwise(&out, total);
    // SAFETY: units past `total` return; codes past `len` are not written, words past the last not read.
    unsafe {
        unpack_columns_kernel::launch_unchecked(
            &out.client,
            count,
            dim,
            1,
            codes.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            len,
            row_words,
            blocks,
            total,
            block,
            elem(dtype),
        );
    }
    out
}
