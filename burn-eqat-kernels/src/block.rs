//! The unit in which packed words are unpacked.

use crate::Bits;

/// The shortest run of whole words that holds whole codes, and its split into windows.
///
/// A window is a run of codes that fits in the 23 bits of a float's mantissa. With the exponent of
/// 2^23 set over the masked field, the bits of a code *are* the float `2^23 + q * 2^shift`, so that
/// no code needs a shift of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    /// Bits of a code.
    pub bits: usize,
    /// Codes in a block.
    pub fields: usize,
    /// Words in a block.
    pub words: usize,
    /// Codes in a window.
    pub window: usize,
}

impl Block {
    pub const fn of(bits: Bits) -> Self {
        let (fields, words, window) = match bits {
            Bits::Two => (16, 1, 8),
            Bits::Three => (32, 3, 7),
            Bits::Four => (8, 1, 4),
            Bits::Eight => (4, 1, 2),
        };
        Block {
            bits: bits.get(),
            fields,
            words,
            window,
        }
    }

    /// Windows in a block.
    pub const fn windows(&self) -> usize {
        self.fields.div_ceil(self.window)
    }

    /// Codes in window `at`.
    pub const fn window_fields(&self, at: usize) -> usize {
        let left = self.fields - at * self.window;
        if left < self.window {
            left
        } else {
            self.window
        }
    }

    /// Bits below field `i` of a block in its window.
    pub const fn shift(&self, i: usize) -> usize {
        i % self.window * self.bits
    }

    /// How many blocks hold `len` codes.
    pub const fn blocks(&self, len: usize) -> usize {
        len.div_ceil(self.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fit_a_mantissa_and_cover_the_block() {
        for bits in Bits::ALL {
            let block = Block::of(bits);
            assert_eq!(block.fields * block.bits, block.words * 32);
            assert!(block.window * block.bits <= 23);
            let covered: usize = (0..block.windows()).map(|w| block.window_fields(w)).sum();
            assert_eq!(covered, block.fields);
        }
    }
}
