use serde::{Deserialize, Serialize};

/// How many bits a code has: 2, 3, 4 or 8.
///
/// ```
/// use burn_eqat_kernels::Bits;
///
/// let bits = Bits::try_from(3_usize)?;
/// assert_eq!((bits, bits.max_code()), (Bits::Three, 7));
/// // 32 codes of 3 bits fill 3 words.
/// assert_eq!(bits.words(32), 3);
/// assert!(Bits::try_from(5_usize).is_err());
/// # Ok::<(), burn_eqat_kernels::BitsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Bits {
    /// Codes 0 to 3.
    Two,
    /// Codes 0 to 7.
    Three,
    /// Codes 0 to 15.
    Four,
    /// Codes 0 to 255.
    Eight,
}

impl Bits {
    /// Every width, narrowest first.
    pub const ALL: [Bits; 4] = [Bits::Two, Bits::Three, Bits::Four, Bits::Eight];

    /// The width as a number.
    pub const fn get(self) -> usize {
        match self {
            Bits::Two => 2,
            Bits::Three => 3,
            Bits::Four => 4,
            Bits::Eight => 8,
        }
    }

    /// The largest code, `2^b - 1`.
    pub const fn max_code(self) -> u32 {
        (1 << self.get()) - 1
    }

    /// How many 32-bit words hold `len` codes.
    pub const fn words(self, len: usize) -> usize {
        // Whole words first, so that no length overflows.
        len / 32 * self.get() + (len % 32 * self.get()).div_ceil(32)
    }
}

impl core::fmt::Display for Bits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// A bit width that is not 2, 3, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bits per weight is not supported: expected 2, 3, 4 or 8")]
pub struct BitsError(pub usize);

impl TryFrom<usize> for Bits {
    type Error = BitsError;

    fn try_from(bits: usize) -> Result<Self, BitsError> {
        Bits::ALL
            .into_iter()
            .find(|b| b.get() == bits)
            .ok_or(BitsError(bits))
    }
}

impl TryFrom<u8> for Bits {
    type Error = BitsError;

    fn try_from(bits: u8) -> Result<Self, BitsError> {
        Bits::try_from(usize::from(bits))
    }
}

impl From<Bits> for u8 {
    fn from(bits: Bits) -> u8 {
        bits.get() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_up() {
        assert_eq!(Bits::Two.words(16), 1);
        assert_eq!(Bits::Two.words(17), 2);
        assert_eq!(Bits::Three.words(32), 3);
        assert_eq!(Bits::Three.words(11), 2);
        assert_eq!(Bits::Eight.words(0), 0);
        assert_eq!(Bits::Eight.words(1 << 62), 1 << 60);
    }

    #[test]
    fn only_four_widths() {
        let widths: Vec<usize> = (0..=300).filter(|b| Bits::try_from(*b).is_ok()).collect();
        assert_eq!(widths, [2, 3, 4, 8]);
    }
}
