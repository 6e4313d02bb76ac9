//! The order of codes after words are split into bytes.

use super::registers::Registers;

/// Vectors of bytes in a block; each has four codes of each column.
pub(super) const fn vectors(bits: usize) -> usize {
    match bits {
        3 => 8,
        _ => 8 / bits,
    }
}

/// The code of a block in byte `byte` of vector `vector` of [`bytes_of`].
pub(super) const fn code(bits: usize, vector: usize, byte: usize) -> usize {
    const THREE: [[usize; 4]; 8] = [
        [0, 24, 16, 8],
        [1, 25, 17, 9],
        [2, 26, 18, 22],
        [3, 27, 19, 23],
        [4, 28, 20, 13],
        [5, 29, 21, 14],
        [6, 30, 15, 11],
        [7, 31, 10, 12],
    ];
    match bits {
        3 => THREE[vector][byte],
        _ => byte * 8 / bits + vector,
    }
}

/// The power of two by which the input is divided (to the nearest) for vector `vector`. If the input has enough
/// digits, two-bit codes stay multiplied by four, which saves shifts.
pub(super) const fn shift(bits: usize, digits: usize, vector: usize) -> u32 {
    if bits == 2 && digits > 1 {
        vector as u32 % 2 * 2
    } else {
        0
    }
}

/// Prepares a block's words for [`bytes_of`].
///
/// # Safety
///
/// The CPU has the instructions.
#[inline(always)]
pub(super) unsafe fn cut<R: Registers, const BITS: usize>(words: [R::Words; 3]) -> [R::Words; 4] {
    // SAFETY: as of the caller.
    unsafe {
        let [w, ..] = words;
        match BITS {
            3 => cut_three::<R>(words),
            _ => [w; 4],
        }
    }
}

/// The codes of vector `vector` as bytes, times the power of two from [`shift`].
///
/// # Safety
///
/// The CPU has the instructions.
#[inline(always)]
pub(super) unsafe fn bytes_of<R: Registers, const BITS: usize, const DIGITS: usize>(
    cut: &[R::Words; 4],
    vector: usize,
) -> R::Words {
    // SAFETY: as of the caller.
    unsafe {
        let shift = shift(BITS, DIGITS, vector);
        let mask = match BITS {
            2 => 0x0303_0303 << shift,
            3 => 0x0707_0707,
            _ => 0x0f0f_0f0f,
        };
        let words = match (BITS, vector) {
            (2, 1) if shift == 0 => R::shr::<2>(cut[0]),
            (2, 3) if shift == 0 => R::shr::<6>(cut[0]),
            (2, 2 | 3) => R::shr::<4>(cut[0]),
            (3, _) if vector % 2 == 1 => R::shr::<3>(cut[vector / 2]),
            (3, _) => cut[vector / 2],
            (8, _) => return cut[0],
            (4, 1) => R::shr::<4>(cut[0]),
            _ => cut[0],
        };
        R::and(words, R::splat(mask))
    }
}

/// Three words hold 32 codes. Bytes of them with the same shift are put together, so that each byte of the result
/// begins with two whole codes. The two codes that lie across words are joined on the way.
#[inline(always)]
unsafe fn cut_three<R: Registers>([w0, w1, w2]: [R::Words; 3]) -> [R::Words; 4] {
    // SAFETY: as of the caller.
    unsafe {
        let cut10 = R::or(
            R::and(R::shr::<11>(w0), R::splat(0x0018_0000)),
            R::shl::<21>(w1),
        );
        let cut21 = R::or(R::shr::<12>(w1), R::shl::<20>(w2));
        let a = bytes::<R>(w0, w2, w1, w0);
        let b = bytes::<R>(
            R::shr::<6>(w0),
            R::shr::<6>(w2),
            R::shr::<6>(w1),
            R::shl::<22>(w2),
        );
        let c = bytes::<R>(R::shr::<12>(w0), R::shr::<12>(w2), cut21, R::shl::<17>(w1));
        let d = bytes::<R>(
            R::shr::<18>(w0),
            R::shr::<18>(w2),
            R::or(R::and(R::shl::<3>(w1), R::splat(0x0007_0000)), cut10),
            R::shl::<23>(w1),
        );
        [a, b, c, d]
    }
}

/// The bytes of each lane, lowest first, one from each of four vectors.
#[inline(always)]
unsafe fn bytes<R: Registers>(b0: R::Words, b1: R::Words, b2: R::Words, b3: R::Words) -> R::Words {
    // SAFETY: as of the caller.
    unsafe {
        let low = R::blend(b0, b1, 0x0000_ff00);
        R::blend(low, R::blend(b2, b3, 0xff00_0000), 0xffff_0000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_block_has_one_place() {
        for bits in [2, 3, 4, 8] {
            let mut codes: Vec<usize> = (0..vectors(bits))
                .flat_map(|vector| (0..4).map(move |byte| code(bits, vector, byte)))
                .collect();
            codes.sort();
            assert!(codes.into_iter().eq(0..vectors(bits) * 4));
        }
    }
}
