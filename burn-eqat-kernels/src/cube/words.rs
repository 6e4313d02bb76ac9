//! Reading packed words inside kernels: words to codes to weights, for a vector of neighbouring columns.

use crate::block::Block;
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The bits of 2^23: the exponent under which a float's mantissa is an integer. Kernels get it as an argument
/// ([`WeightSizes::exponent`]).
pub(crate) const EXPONENT: u32 = 0x4B00_0000;
pub(crate) const EXPONENT_VALUE: f32 = 8_388_608.0;

/// The sizes of a packed weight that a kernel needs to read a part of it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct WeightSizes {
    /// Rows of the weight, `k`.
    pub rows: usize,
    /// Rows of words.
    pub word_rows: usize,
    /// Column vectors in a row.
    pub vectors: usize,
    /// Rows of a group.
    pub group: usize,
    /// The bits of 2^23. They are an argument to be in a register: NVIDIA's instruction for `(word & mask) | exponent` takes one
    /// constant, so with two it would be two instructions, for each code.
    pub exponent: u32,
}

/// The sizes for a launch.
pub(crate) fn sizes(
    rows: usize,
    word_rows: usize,
    vectors: usize,
    group: usize,
) -> WeightSizesLaunch {
    WeightSizesLaunch::new(rows, word_rows, vectors, group, EXPONENT)
}

/// The words of block `at` of column vector `column`. With `whole`, all of these words exist; otherwise words past the last are zeros.
#[cube]
pub(crate) fn load_block<N: Size>(
    words: &[Vector<u32, N>],
    weight: &WeightSizes,
    at: usize,
    column: usize,
    #[comptime] block: Block,
    #[comptime] whole: bool,
) -> Array<Vector<u32, N>> {
    let mut loaded = Array::<Vector<u32, N>>::new(block.words);
    #[unroll]
    for i in 0..block.words {
        let row = at * block.words + i;
        if comptime!(whole) {
            loaded[i] = words[row * weight.vectors + column];
        } else {
            loaded[i] = Vector::new(0u32);
            if row < weight.word_rows {
                loaded[i] = words[row * weight.vectors + column];
            }
        }
    }
    loaded
}

/// Window `at` of the block whose words begin at `first`, with its codes from the low bit up.
#[cube]
pub(crate) fn window<N: Size>(
    words: &Array<Vector<u32, N>>,
    #[comptime] first: usize,
    #[comptime] at: usize,
    #[comptime] block: Block,
) -> Vector<u32, N> {
    let start = comptime!(at * block.window * block.bits);
    let (word, shift) = comptime!((first + start / 32, start % 32));
    let end = comptime!(shift + block.window_fields(at) * block.bits);
    let mut bits = words[word];
    if comptime!(shift > 0) {
        bits >>= Vector::new(comptime!(shift as u32));
    }
    if comptime!(end > 32) {
        bits |= words[comptime!(word + 1)] << Vector::new(comptime!(32 - shift as u32));
    }
    bits
}

/// Field `i` of a window under an exponent, as a float.
#[cube]
fn field<N: Size>(
    window: Vector<u32, N>,
    exponent: u32,
    #[comptime] i: usize,
    #[comptime] block: Block,
) -> Vector<f32, N> {
    let mask = comptime!(((1u32 << block.bits) - 1) << (i * block.bits));
    Vector::<f32, N>::reinterpret((window & Vector::new(mask)) | Vector::new(exponent))
}

/// `q * 2^shift` of field `i` of a window, where `shift` is the field's place in the window. Exact.
#[cube]
pub(crate) fn scaled_code<N: Size>(
    window: Vector<u32, N>,
    exponent: u32,
    #[comptime] i: usize,
    #[comptime] block: Block,
) -> Vector<f32, N> {
    field::<N>(window, exponent, i, block) - Vector::new(EXPONENT_VALUE)
}

/// All codes of a block, as floats.
#[cube]
pub(crate) fn block_codes<N: Size>(
    words: &Array<Vector<u32, N>>,
    exponent: u32,
    #[comptime] block: Block,
) -> Array<Vector<f32, N>> {
    let mut codes = Array::<Vector<f32, N>>::new(block.fields);
    #[unroll]
    for at in 0..block.windows() {
        let bits = window::<N>(words, 0usize, at, block);
        #[unroll]
        for i in 0..block.window_fields(at) {
            let shift = comptime!((i * block.bits) as u32);
            // Under the exponent of 2^(23 - shift), the field is the code itself.
            let one = comptime!(EXPONENT_VALUE / (1u32 << shift) as f32);
            let code = field::<N>(bits, exponent - (shift << 23u32), i, block);
            codes[comptime!(at * block.window + i)] = code - Vector::new(one);
        }
    }
    codes
}

/// The weights `(q - z) * s` of block `at` of column vector `column`; past the last row they are
/// meaningless and must not be used.
#[cube]
pub(crate) fn block_weights<S: Float, N: Size>(
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    weight: &WeightSizes,
    at: usize,
    column: usize,
    #[comptime] block: Block,
    #[comptime] aligned: bool,
) -> Array<Vector<f32, N>> {
    // If groups are made of whole blocks, so is the weight.
    let loaded = load_block::<N>(words, weight, at, column, block, aligned);
    let mut weights = block_codes::<N>(&loaded, weight.exponent, block);
    let first = at * block.fields;
    if comptime!(aligned) {
        let place = first / weight.group * weight.vectors + column;
        let scale = Vector::<f32, N>::cast_from(scales[place]);
        let zero = Vector::<f32, N>::cast_from(zero_points[place]);
        #[unroll]
        for i in 0..block.fields {
            weights[i] = (weights[i] - zero) * scale;
        }
    } else {
        #[unroll]
        for i in 0..block.fields {
            let row = (first + i).min(weight.rows - 1);
            let place = row / weight.group * weight.vectors + column;
            let scale = Vector::<f32, N>::cast_from(scales[place]);
            let zero = Vector::<f32, N>::cast_from(zero_points[place]);
            weights[i] = (weights[i] - zero) * scale;
        }
    }
    weights
}

/// The codes of one row of column vector `column`, at any place in its block.
#[cube]
#[allow(clippy::collapsible_if)] // the first is decided when the kernel is compiled
pub(crate) fn row_codes<N: Size>(
    words: &[Vector<u32, N>],
    weight: &WeightSizes,
    row: usize,
    column: usize,
    #[comptime] block: Block,
) -> Vector<f32, N> {
    let bit = row * block.bits;
    let word = bit / 32;
    let shift = u32::cast_from(bit % 32);
    let place = word * weight.vectors + column;
    let mut bits = words[place] >> Vector::new(shift);
    if comptime!(32 % block.bits != 0) {
        if shift + comptime!(block.bits as u32) > 32u32 {
            let high = words[place + weight.vectors] << Vector::new(32u32 - shift);
            bits |= high;
        }
    }
    Vector::<f32, N>::cast_from(bits & Vector::new(comptime!((1u32 << block.bits) - 1)))
}

/// The codes of column vector `column` in row `row` of words that are packed along the columns, `vectors` vectors a row.
#[cube]
#[allow(clippy::collapsible_if)] // the first is decided when the kernel is compiled
pub(crate) fn column_codes<N: Size>(
    words: &[u32],
    row: usize,
    vectors: usize,
    column: usize,
    #[comptime] block: Block,
) -> Vector<f32, N> {
    let width = N::value();
    let mask = comptime!((1u32 << block.bits) - 1);
    let vector_bits = comptime!(width * block.bits);
    let first = row * (vectors * vector_bits).div_ceil(32);
    let mut codes = Vector::<f32, N>::new(0.0f32);
    if comptime!(32 % vector_bits == 0) {
        // The codes of a vector lie in one word.
        let bit = column * vector_bits;
        let bits = words[first + bit / 32] >> u32::cast_from(bit % 32);
        #[unroll]
        for i in 0..width {
            let code = (bits >> comptime!((i * block.bits) as u32)) & mask;
            codes.insert(i, f32::cast_from(code));
        }
    } else {
        #[unroll]
        for i in 0..width {
            let bit = column * vector_bits + comptime!(i * block.bits);
            let word = first + bit / 32;
            let shift = u32::cast_from(bit % 32);
            let mut bits = words[word] >> shift;
            if comptime!(32 % block.bits != 0) {
                if shift + comptime!(block.bits as u32) > 32u32 {
                    bits |= words[word + 1] << (32u32 - shift);
                }
            }
            codes.insert(i, f32::cast_from(bits & mask));
        }
    }
    codes
}
