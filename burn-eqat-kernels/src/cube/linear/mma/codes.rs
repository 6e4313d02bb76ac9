//! Packed words to the registers of matrix units.

use crate::cube::plan::mma::{PLANE, PairCodes, PairField, VECTORS};
use crate::cube::words::{EXPONENT_VALUE, WeightSizes};
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
    let rows = comptime!(codes.step_words());
    if comptime!(codes.bits == 3) {
        // Two units share a block of three words, and both want the middle one.
        step * rows + lane.part / 2 * 3 + lane.part % 2
    } else {
        step * rows + lane.part * codes.words()
    }
}

/// Where the zero points of a column vector are in a row of words that are packed along the columns.
#[derive(CubeType, Clone, Copy)]
pub(super) struct ZeroPlace {
    /// Words of a row.
    pub row_words: usize,
    /// The word in which they begin, at bit `shift`.
    pub word: usize,
    shift: u32,
    /// 1 if they end in the next word.
    pub next: usize,
}

#[cube]
impl ZeroPlace {
    pub fn new<N: Size>(
        weight: &WeightSizes,
        column: usize,
        #[comptime] codes: PairCodes,
    ) -> ZeroPlace {
        let width = N::value();
        let vector_bits = comptime!(width * codes.bits);
        let bit = column.min(weight.vectors - 1) * vector_bits;
        let shift = bit % 32;
        let mut next = 0usize;
        if shift + vector_bits > 32 {
            next = 1usize;
        }
        ZeroPlace {
            row_words: (weight.vectors * vector_bits).div_ceil(32),
            word: bit / 32,
            shift: u32::cast_from(shift),
            next,
        }
    }

    /// The zero points in the words of step `step`, as numbers. `exponent` is that of [`WeightSizes`].
    pub fn numbers<N: Size>(
        &self,
        words: &Array<u32>,
        exponent: u32,
        #[comptime] step: usize,
        #[comptime] codes: PairCodes,
    ) -> Vector<f32, N> {
        let loads = comptime!(codes.zero_words());
        let mut bits = words[comptime!(step * loads)] >> self.shift;
        if comptime!(loads > 1) {
            // Of the same word, these are above the vector's bits. Of 32 bits, none are moved.
            bits |= (words[comptime!(step * loads + 1)] << 1u32) << (31u32 - self.shift);
        }
        let mask = comptime!((1u32 << codes.bits) - 1);
        let mut numbers = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for i in 0..N::value() {
            let field = (bits >> comptime!((i * codes.bits) as u32)) & mask;
            numbers.insert(i, f32::reinterpret(field | exponent));
        }
        numbers - Vector::new(EXPONENT_VALUE)
    }
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
        let bits =
            (a >> Vector::new(shift)) | ((b << Vector::new(1u32)) << Vector::new(31u32 - shift));
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

/// Pair `i` of each column: `2^e` plus code `i` and code `i + 8`, as floats. Exact.
#[cube]
pub(super) fn pair<E: Float, N: Size, N2: Size>(
    pairs: &Array<Vector<u32, N>>,
    exponents: u32,
    #[comptime] i: usize,
    #[comptime] codes: PairCodes,
) -> Array<Vector<E, N2>> {
    let PairField {
        word,
        up,
        down,
        place,
    } = comptime!(codes.field(i));
    let mut bits = pairs[word];
    if comptime!(up > 0) {
        bits <<= Vector::new(comptime!(up as u32));
    }
    if comptime!(down > 0) {
        bits >>= Vector::new(comptime!(down as u32));
    }
    // The exponent is made from an argument for it to be in a register, as everywhere (`WeightSizes::exponent`).
    let exponent = exponents - comptime!(codes.less(place));
    bits = (bits & Vector::new(comptime!(codes.mask(place)))) | Vector::new(exponent);
    let mut floats = Array::<Vector<E, N2>>::new(N::value());
    #[unroll]
    for column in 0..N::value() {
        floats[column] = Vector::<E, N2>::reinterpret(bits.extract(column));
    }
    floats
}
