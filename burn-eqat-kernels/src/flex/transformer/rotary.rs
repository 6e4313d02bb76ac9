//! Rotary positions: rotates the halves of a head against each other.

use super::super::level::Level;
use super::super::parallel;
use super::elementwise::{Elementwise, TASK, each};
use super::heads::Heads;
use macerator::{Simd, Vector, WithSimd};
use std::ops::Range;

/// A rotation of all heads by the angles of their positions.
#[derive(Clone, Copy)]
pub(super) struct Rotation<'a> {
    /// `[positions, width / 2]`.
    pub cos: &'a [f32],
    /// As `cos`.
    pub sin: &'a [f32],
    /// Whether to rotate back, as for the gradient.
    pub back: bool,
}

impl Rotation<'_> {
    /// Rotates `from` to `to`, which has the same shape.
    pub fn run(self, level: Level, from: Heads, to: Heads) {
        let rows = from.batch * from.positions;
        let numbers = rows * from.heads * from.width;
        let tasks = numbers.div_ceil(TASK).min(rows);
        parallel::each(tasks, parallel::threads(numbers * 4), |at| {
            level.run(Pass {
                rotation: self,
                from,
                to,
                rows: parallel::part(rows, 1, tasks, at),
            })
        });
    }
}

struct Pass<'a> {
    rotation: Rotation<'a>,
    from: Heads,
    to: Heads,
    /// Positions of all batches.
    rows: Range<usize>,
}

impl WithSimd for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Rotation { cos, sin, back } = self.rotation;
        let half = self.from.width / 2;
        for row in self.rows {
            let (batch, position) = (row / self.from.positions, row % self.from.positions);
            let cos = cos[position * half..][..half].as_ptr();
            let sin = sin[position * half..][..half].as_ptr();
            for head in 0..self.from.heads {
                let from = self.from.at(batch, head, position).cast_const();
                let to = self.to.at(batch, head, position);
                // SAFETY: heads have both halves, as do the tables' rows; the head is this task's.
                unsafe {
                    let from = [from, from.add(half), cos, sin];
                    let to = [to, to.add(half)];
                    if back {
                        each::<S, 4, 2>(RotateBack, from, to, half);
                    } else {
                        each::<S, 4, 2>(Rotate, from, to, half);
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Rotate;

#[derive(Clone, Copy)]
struct RotateBack;

impl Elementwise<4, 2> for Rotate {
    #[inline(always)]
    fn apply<S: Simd>(self, [a, b, cos, sin]: [Vector<S, f32>; 4]) -> [Vector<S, f32>; 2] {
        [a * cos - b * sin, b * cos + a * sin]
    }
}

impl Elementwise<4, 2> for RotateBack {
    #[inline(always)]
    fn apply<S: Simd>(self, [a, b, cos, sin]: [Vector<S, f32>; 4]) -> [Vector<S, f32>; 2] {
        [a * cos + b * sin, b * cos - a * sin]
    }
}
