//! The copy of a weight for lookups.

use super::super::parallel;
use super::super::weight::Weight;
use super::lines::Lines;
use super::shape::{Shape, TILE_COLUMNS};
use crate::problem::Problem;
use std::ops::Range;

/// The most tiles of a block: long runs of memory, but enough blocks to balance threads.
const TILES: usize = 32;

/// A copy of a packed weight in the order in which lookups read it: for each block of tiles, `[groups, tiles]` parts
/// of [`Shape::bytes`]. The low halves of the step sizes are separate, since quantized activations do not need them. A
/// task reads one block, from its first byte to its last.
///
/// A byte of codes belongs to one column: four rows of two bits, or eight of one. The step sizes and zero
/// points of a tile are in the order of the kernel's sums, see [`column`].
#[derive(Debug)]
pub(crate) struct LookupWeight {
    pub problem: Problem,
    pub(super) shape: Shape,
    /// Tiles of a block.
    width: usize,
    parts: Lines,
    low: Lines,
}

/// The column of a tile whose sum is in lane `lane` of vector `vector` (there are four vectors of eight lanes). Sums of
/// bytes become sums of 16 bits, those at even positions first, and then of 32.
pub(super) const fn column(vector: usize, lane: usize) -> usize {
    4 * lane + [0, 2, 1, 3][vector]
}

impl LookupWeight {
    /// `None` for codes or groups without lookups, or if there is not enough memory.
    pub fn new(weight: &Weight) -> Option<Self> {
        let problem = weight.problem;
        let shape = Shape::new(&problem)?;
        let tiles = problem.n.div_ceil(TILE_COLUMNS);
        let threads = parallel::threads(problem.k * problem.n);
        let blocks = tiles.div_ceil(TILES).next_multiple_of(threads).max(1);
        let mut copy = LookupWeight {
            problem,
            shape,
            width: tiles.div_ceil(blocks).max(1),
            parts: Lines::new(shape.groups * tiles * shape.bytes())?,
            low: Lines::new(shape.groups * tiles * 2 * TILE_COLUMNS)?,
        };
        let parts = Out::new(copy.parts.bytes_mut(), shape.bytes());
        let low = Out::new(copy.low.bytes_mut(), 2 * TILE_COLUMNS);
        let copy = copy;
        parallel::each(shape.groups * tiles, threads, |at| {
            let (group, tile) = (at / tiles, at % tiles);
            let at = copy.place(group, tile);
            // SAFETY: parts do not overlap, and each is one task's.
            let (part, low) = unsafe { (parts.part(at), low.part(at)) };
            let (codes, rest) = part.split_at_mut(shape.chunks * shape.chunk_bytes());
            for (chunk, codes) in codes.chunks_exact_mut(shape.chunk_bytes()).enumerate() {
                let row = (group * shape.chunks + chunk) * shape.rows;
                fill(weight, shape, row, tile * TILE_COLUMNS, codes);
            }
            let (high, zeros) = rest.split_at_mut(2 * TILE_COLUMNS);
            for vector in 0..4 {
                for lane in 0..8 {
                    let within = column(vector, lane);
                    let column = tile * TILE_COLUMNS + within;
                    if column >= problem.n {
                        continue;
                    }
                    // Rounded to the nearest; the low half is the signed rest.
                    let bits = weight.scale(group, column).to_bits();
                    let half = bits.wrapping_add(0x8000) >> 16;
                    let place = (vector / 2 * 8 + lane) * 4 + vector % 2 * 2;
                    high[place..place + 2].copy_from_slice(&(half as u16).to_le_bytes());
                    low[place..place + 2].copy_from_slice(&(bits as u16).to_le_bytes());
                    zeros[within] = weight.zero(group, column) as u8;
                }
            }
        });
        Some(copy)
    }

    /// The number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.tiles().div_ceil(self.width)
    }

    /// Tiles of a block.
    pub(super) fn block(&self, at: usize) -> Range<usize> {
        at * self.width..self.tiles().min((at + 1) * self.width)
    }

    fn tiles(&self) -> usize {
        self.problem.n.div_ceil(TILE_COLUMNS)
    }

    /// The index of the part of a group and a tile. The part of the block's next tile follows it.
    pub(super) fn place(&self, group: usize, tile: usize) -> usize {
        let first = tile / self.width * self.width;
        let width = self.width.min(self.tiles() - first);
        first * self.shape.groups + group * width + tile - first
    }

    /// A part, of [`Shape::bytes`].
    pub(super) fn part(&self, place: usize) -> *const u8 {
        self.parts.as_ptr().wrapping_add(place * self.shape.bytes())
    }

    /// Low halves of a part's step sizes.
    pub(super) fn low(&self, place: usize) -> *const u8 {
        self.low.as_ptr().wrapping_add(place * 2 * TILE_COLUMNS)
    }
}

/// Fills in the codes of a tile of a chunk that begins at `row` and `column`.
fn fill(weight: &Weight, shape: Shape, row: usize, column: usize, codes: &mut [u8]) {
    let columns = (weight.problem.n - column).min(TILE_COLUMNS);
    let (high, pairs) = codes.split_at_mut(shape.high() * TILE_COLUMNS);
    for i in 0..shape.rows {
        let (pairs, pair_shift) = (&mut pairs[i / 4 * TILE_COLUMNS..][..columns], i % 4 * 2);
        for (c, byte) in pairs.iter_mut().enumerate() {
            let code = weight.code(row + i, column + c);
            *byte |= ((code & 3) << pair_shift) as u8;
        }
        if shape.high() == 0 {
            continue;
        }
        for (c, byte) in high[i / 8 * TILE_COLUMNS..][..columns]
            .iter_mut()
            .enumerate()
        {
            let code = weight.code(row + i, column + c);
            *byte |= ((code >> 2) << (i % 8)) as u8;
        }
    }
}

/// Bytes that tasks write, in parts of one length.
#[derive(Clone, Copy)]
struct Out {
    first: *mut u8,
    len: usize,
}

// SAFETY: each task writes only its own parts.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    fn new(bytes: &mut [u8], len: usize) -> Self {
        let first = bytes.as_mut_ptr();
        Out { first, len }
    }

    /// # Safety
    ///
    /// The part is in bounds, and nobody else has it.
    unsafe fn part<'a>(self, at: usize) -> &'a mut [u8] {
        // SAFETY: as of the caller.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(at * self.len), self.len) }
    }
}
