//! The rows and bytes of the parts of a copy.

use crate::problem::Problem;

/// Columns of a tile: one vector of bytes.
pub(super) const TILE_COLUMNS: usize = 32;

/// The most rows of a chunk. A chunk has one scale, and its sums stay below 16 bits.
const CHUNK: usize = 64;

/// Sizes of a group of rows in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub bits: usize,
    pub groups: usize,
    /// Chunks of a group.
    pub chunks: usize,
    /// Rows of a chunk, a multiple of 8.
    pub rows: usize,
}

impl Shape {
    /// `None` for codes or groups without lookups.
    pub fn new(problem: &Problem) -> Option<Self> {
        let (bits, group) = (problem.bits.get(), problem.group());
        let mut sizes = (1..=CHUNK / 8).rev().map(|bytes| 8 * bytes);
        let rows = sizes.find(|rows| group.is_multiple_of(*rows))?;
        (bits <= 3 && problem.n > 0).then_some(Shape {
            bits,
            groups: problem.groups,
            chunks: group / rows,
            rows,
        })
    }

    /// Vectors of the low two bits in a chunk: four rows each.
    pub fn pairs(self) -> usize {
        self.rows / 4
    }

    /// Vectors of third bits in a chunk: eight rows each.
    pub fn high(self) -> usize {
        match self.bits {
            2 => 0,
            _ => self.rows / 8,
        }
    }

    /// Bytes of a tile of a chunk.
    pub fn chunk_bytes(self) -> usize {
        (self.high() + self.pairs()) * TILE_COLUMNS
    }

    /// Bytes of a tile of a group: its codes, the high halves of its step sizes, its zero points.
    pub fn bytes(self) -> usize {
        self.chunks * self.chunk_bytes() + 2 * TILE_COLUMNS + TILE_COLUMNS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bits;

    fn shape(bits: Bits, group: usize) -> Option<Shape> {
        Shape::new(&Problem {
            m: 1,
            k: 2 * group,
            n: 5,
            groups: 2,
            bits,
        })
    }

    #[test]
    fn chunks_are_a_group_in_whole_bytes() {
        for (group, rows) in [(8, 8), (64, 64), (96, 48), (128, 64), (176, 16), (344, 8)] {
            let shape = shape(Bits::Two, group).unwrap();
            assert_eq!((shape.rows, shape.rows * shape.chunks), (rows, group));
        }
        assert_eq!(shape(Bits::Two, 12), None);
        assert_eq!(shape(Bits::Four, 64), None);
    }

    #[test]
    fn a_code_takes_its_bits_and_no_more() {
        for bits in [Bits::Two, Bits::Three] {
            let shape = shape(bits, 64).unwrap();
            assert_eq!(shape.chunk_bytes() * 8, bits.get() * 64 * TILE_COLUMNS);
        }
    }
}
