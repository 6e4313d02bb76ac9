//! Packed words to the registers of matrix units.

use crate::cube::plan::mma::{PLANE, PairCodes, PairField, VECTORS};
use crate::cube::words::EXPONENT_VALUE;
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The place of a unit in its plane: matrix units want row `column` of their left side, and the codes of `part`, from it.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Lane {
    /// Which of a plane's column vectors the unit takes.
    pub column: usize,
    /// Which 16 codes of a step it takes.
    pub part: usize,
}

#[cube]
impl Lane {
    pub fn new() -> Lane {
        let parts = comptime!(PLANE / VECTORS);
        let unit = UNIT_POS_PLANE as usize;
        Lane {
            column: unit / parts,
            part: unit % parts,
        }
    }
}

/// The first row of words of a unit's codes in step `step`.
#[cube]
pub(super) fn first_word_row(step: usize, lane: &Lane, #[comptime] codes: PairCodes) -> usize {
    let rows = comptime!(2 * codes.bits);
    if comptime!(codes.bits == 3) {
        // Two units share a block of three words, and both want the middle one.
        step * rows + lane.part / 2 * 3 + lane.part % 2
    } else {
        step * rows + lane.part * codes.words()
    }
}

/// The bits of the zero points of column vector `column` in group `group`, from words that are packed along the columns.
#[cube]
#[allow(clippy::collapsible_if)] // the first is decided when the kernel is compiled
pub(super) fn zero_bits<N: Size>(
    words: &[u32],
    group: usize,
    vectors: usize,
    column: usize,
    #[comptime] codes: PairCodes,
) -> u32 {
    let width = N::value();
    let vector_bits = comptime!(width * codes.bits);
    let first = group * (vectors * vector_bits).div_ceil(32);
    let bit = column * vector_bits;
    let word = first + bit / 32;
    let shift = u32::cast_from(bit % 32);
    let mut bits = words[word] >> shift;
    if comptime!(32 % vector_bits != 0) {
        if shift + comptime!(vector_bits as u32) > 32u32 {
            bits |= words[word + 1] << (32u32 - shift);
        }
    }
    bits
}

/// The zero points of those bits. `exponent` is that of [`WeightSizes`](crate::cube::words::WeightSizes).
#[cube]
pub(super) fn zero_numbers<N: Size>(
    bits: u32,
    exponent: u32,
    #[comptime] codes: PairCodes,
) -> Vector<f32, N> {
    let mask = comptime!((1u32 << codes.bits) - 1);
    let mut numbers = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..N::value() {
        let field = (bits >> comptime!((i * codes.bits) as u32)) & mask;
        numbers.insert(i, f32::reinterpret(field | exponent));
    }
    numbers - Vector::new(EXPONENT_VALUE)
}

/// The words with pairs (see [`PairCodes`]), from the words that were loaded, for a vector of columns.
#[cube]
pub(super) fn pair_words<N: Size>(
    loaded: &Array<Vector<u32, N>>,
    #[comptime] first: usize,
    lane: &Lane,
    #[comptime] codes: PairCodes,
) -> Array<Vector<u32, N>> {
    let mut pairs = Array::<Vector<u32, N>>::new(codes.words());
    let low = Vector::<u32, N>::new(0xffff_u32);
    let high = Vector::<u32, N>::new(0xffff_0000_u32);
    let half = Vector::<u32, N>::new(16u32);
    if comptime!(codes.words() == 1) {
        pairs[0] = loaded[first];
    } else if comptime!(codes.bits == 3) {
        // 48 bits, from bit 0 or 16 on; 24 for each half of a pair.
        let (a, b) = (loaded[first], loaded[comptime!(first + 1)]);
        let shift = u32::cast_from(lane.part % 2 * 16);
        // Of 32 bits, none are moved.
        let bits = (a >> Vector::new(shift)) | ((b << Vector::new(1u32)) << Vector::new(31u32 - shift));
        let rest = b >> Vector::new(shift);
        let byte = Vector::<u32, N>::new(8u32);
        let second = (bits >> Vector::new(24u32)) | (rest << byte);
        pairs[0] = (bits & low) | (second << half);
        pairs[1] = ((bits >> byte) & low) | ((second << byte) & high);
    } else {
        let across = comptime!(codes.words() / 2);
        #[unroll]
        for i in 0..across {
            let a = loaded[comptime!(first + i)];
            let b = loaded[comptime!(first + i + across)];
            pairs[comptime!(2 * i)] = (a & low) | (b << half);
            pairs[comptime!(2 * i + 1)] = (a >> half) | (b & high);
        }
    }
    pairs
}

/// Pair `i` of each column: code `i` and code `i + 8`, as floats. Exact.
#[cube]
pub(super) fn pair<E: Float, N: Size, N2: Size>(
    pairs: &Array<Vector<u32, N>>,
    exponents: u32,
    #[comptime] i: usize,
    #[comptime] codes: PairCodes,
) -> Array<Vector<E, N2>> {
    let PairField { word, down, place } = comptime!(codes.field(i));
    let mut bits = pairs[word];
    if comptime!(down > 0) {
        bits >>= Vector::new(comptime!(down as u32));
    }
    // The exponent is made from an argument for it to be in a register, as everywhere (`WeightSizes::exponent`).
    let exponent = exponents - comptime!(codes.less(place));
    bits = (bits & Vector::new(comptime!(codes.mask(place)))) | Vector::new(exponent);
    let one = Vector::<E, N2>::new(E::new(comptime!(codes.one(place))));
    let mut floats = Array::<Vector<E, N2>>::new(N::value());
    #[unroll]
    for column in 0..N::value() {
        floats[column] = Vector::<E, N2>::reinterpret(bits.extract(column)) - one;
    }
    floats
}
