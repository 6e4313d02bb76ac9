//! Tiles of the dense weight, unpacked into a buffer.

use super::fields::{self, block_fields, with_bits};
use super::level::Level;
use super::parallel::Shared;
use super::weight::Weight;
use macerator::{Scalar, Simd, Vector, WithSimd, vload_unaligned, vstore_unaligned};
use std::ops::Range;

/// The contents of a tile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// `(q - z) * s`, the weight.
    Weight,
    /// `q - z`, the centered codes.
    Centered,
}

/// Unpacks rows and columns of a weight to `out`, which has `stride` elements a row. The rows begin with
/// a block; groups and blocks need not align.
pub(super) fn unpack(
    level: Level,
    weight: &Weight,
    rows: Range<usize>,
    columns: Range<usize>,
    values: Values,
    (out, stride): (Shared, usize),
) {
    debug_assert!(rows.start.is_multiple_of(weight.block().fields));
    with_bits!(weight.problem.bits, BITS => level.run(Tile::<BITS> {
        weight,
        rows,
        columns,
        values,
        out,
        stride,
    }))
}

struct Tile<'a, const BITS: usize> {
    weight: &'a Weight<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    values: Values,
    out: Shared,
    stride: usize,
}

impl<const BITS: usize> WithSimd for Tile<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let lanes = S::lanes32();
        let mut column = self.columns.start;
        while column + lanes <= self.columns.end {
            // SAFETY: the columns are in bounds.
            unsafe { self.vector::<S>(column) };
            column += lanes;
        }
        for column in column..self.columns.end {
            self.scalar(column);
        }
    }
}

impl<const BITS: usize> Tile<'_, BITS> {
    /// Where element `[i, column]` of the weight goes.
    #[inline(always)]
    fn out(&self, i: usize, column: usize) -> *mut f32 {
        let (row, column) = (i - self.rows.start, column - self.columns.start);
        self.out.at(row * self.stride + column)
    }

    /// Step sizes and zero points of a group.
    #[inline(always)]
    unsafe fn group<S: Simd>(&self, group: usize, column: usize) -> [Vector<S, f32>; 2] {
        // SAFETY: as of the caller.
        unsafe {
            let s = match self.values {
                Values::Centered => 1f32.splat(),
                Values::Weight => {
                    let at = group * self.weight.problem.n + column;
                    vload_unaligned(self.weight.scales.as_ptr().add(at))
                }
            };
            [s, fields::zeros::<S, BITS>(self.weight, group, column)]
        }
    }

    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, column: usize) {
        let in_group = self.weight.problem.group();
        let aligned = self.weight.problem.aligned();
        let mut i = self.rows.start;
        // SAFETY: rows and columns are in bounds.
        unsafe {
            let mut group = self.group::<S>(i / in_group, column);
            while i < self.rows.end {
                let block = i / block_fields(BITS);
                if aligned && i + block_fields(BITS) <= self.rows.end {
                    if i.is_multiple_of(in_group) {
                        group = self.group::<S>(i / in_group, column);
                    }
                    let [s, z] = group;
                    let words = fields::load_block::<S, BITS>(self.weight, block, column);
                    for field in 0..block_fields(BITS) {
                        let w = (fields::code::<S, BITS>(&words, field) - z) * s;
                        vstore_unaligned(self.out(i + field, column), w);
                    }
                    i += block_fields(BITS);
                    continue;
                }
                // One code at a time: groups change within blocks, or the last block is cut off.
                let end = (i + block_fields(BITS)).min(self.rows.end);
                for i in i..end {
                    if i.is_multiple_of(in_group) {
                        group = self.group::<S>(i / in_group, column);
                    }
                    let [s, z] = group;
                    let mut codes = [0f32; 16];
                    for (lane, code) in codes.iter_mut().enumerate().take(S::lanes32()) {
                        *code = self.weight.code(i, column + lane) as f32;
                    }
                    let codes: Vector<S, f32> = vload_unaligned(codes.as_ptr());
                    vstore_unaligned(self.out(i, column), (codes - z) * s);
                }
                i = end;
            }
        }
    }

    fn scalar(&self, column: usize) {
        let in_group = self.weight.problem.group();
        for i in self.rows.clone() {
            let group = i / in_group;
            let centered = self.weight.code(i, column) as f32 - self.weight.zero(group, column);
            let w = match self.values {
                Values::Centered => centered,
                Values::Weight => centered * self.weight.scale(group, column),
            };
            // SAFETY: rows and columns are in bounds.
            unsafe { self.out(i, column).write(w) };
        }
    }
}
