//! The sizes of a matmul with a packed weight. Every backend selects its kernels by them.

use crate::Bits;
use crate::block::Block;

/// Sizes of a packed weight `[k, n]` and of the input that is multiplied by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Rows of the input.
    pub m: usize,
    /// Rows of the weight, `d_input`.
    pub k: usize,
    /// Columns of the weight, `d_output`.
    pub n: usize,
    /// Groups along `k`; divides it.
    pub groups: usize,
    /// Width of a code.
    pub bits: Bits,
}

impl Problem {
    /// Rows of a group.
    pub fn group(&self) -> usize {
        self.k / self.groups
    }

    /// The unit in which words are unpacked.
    pub fn block(&self) -> Block {
        Block::of(self.bits)
    }

    /// Whether a block of codes never lies across two groups.
    pub fn aligned(&self) -> bool {
        self.group().is_multiple_of(self.block().fields)
    }
}

/// Greatest common divisor.
pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
