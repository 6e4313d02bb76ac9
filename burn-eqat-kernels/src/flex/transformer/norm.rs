//! Root-mean-square norm, one row at a time.

use super::super::level::Level;
use super::super::parallel::{self, Shared};
use super::elementwise::TASK;
use super::vectors::{dot, load, store};
use macerator::{Scalar, Simd, Vector, WithSimd};
use std::ops::Range;

/// Rows `[rows, width]` to normalize.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub x: &'a [f32],
    /// `[width]`.
    pub gamma: &'a [f32],
    pub epsilon: f32,
}

/// The approximate number of multiplications for an element.
const WORK: usize = 4;

impl Norm<'_> {
    fn rows(&self) -> usize {
        self.x.len() / self.gamma.len().max(1)
    }

    fn tasks(&self) -> usize {
        self.x.len().div_ceil(TASK).min(self.rows())
    }

    pub fn forward(self, level: Level, y: &mut [f32]) {
        let y = Shared::new(y);
        let tasks = self.tasks();
        parallel::each(tasks, parallel::threads(self.x.len() * WORK), |at| {
            let rows = parallel::part(self.rows(), 1, tasks, at);
            level.run(Forward {
                norm: self,
                rows,
                y,
            })
        });
    }

    /// Gradients by `x` and `gamma`.
    pub fn backward(self, level: Level, grad: &[f32], dx: &mut [f32], dgamma: &mut [f32]) {
        let (tasks, width) = (self.tasks(), self.gamma.len());
        let mut parts = vec![0.0; tasks * width];
        let (dx, shared) = (Shared::new(dx), Shared::new(&mut parts));
        parallel::each(tasks, parallel::threads(self.x.len() * WORK), |at| {
            let rows = parallel::part(self.rows(), 1, tasks, at);
            level.run(Backward {
                norm: self,
                rows,
                grad,
                dx,
                dgamma: shared.offset(at * width),
            })
        });
        for part in parts.chunks_exact(width.max(1)) {
            for (sum, part) in dgamma.iter_mut().zip(part) {
                *sum += part;
            }
        }
    }

    /// The factor of a row: one over the root of its mean square.
    #[inline(always)]
    fn factor<S: Simd>(&self, row: *const f32) -> f32 {
        let width = self.gamma.len();
        // SAFETY: a row has as many numbers.
        let squares = unsafe { dot::<S>(row, row, width) };
        1.0 / (squares / width as f32 + self.epsilon).sqrt()
    }
}

struct Forward<'a> {
    norm: Norm<'a>,
    rows: Range<usize>,
    y: Shared,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let norm = self.norm;
        let width = norm.gamma.len();
        for row in self.rows {
            let x = norm.x[row * width..][..width].as_ptr();
            let factor = norm.factor::<S>(x).splat::<S>();
            let mut at = 0;
            while at < width {
                // SAFETY: rows have as many numbers, and this one is this task's.
                unsafe {
                    let gamma = load::<S>(norm.gamma.as_ptr(), at, width, 0.0);
                    let y = load::<S>(x, at, width, 0.0) * factor * gamma;
                    store(self.y.at(row * width), at, width, y);
                }
                at += S::lanes32();
            }
        }
    }
}

struct Backward<'a> {
    norm: Norm<'a>,
    rows: Range<usize>,
    grad: &'a [f32],
    dx: Shared,
    /// This task's part of the sum.
    dgamma: Shared,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let norm = self.norm;
        let (width, lanes) = (norm.gamma.len(), S::lanes32());
        let gamma = norm.gamma.as_ptr();
        for row in self.rows {
            let x = norm.x[row * width..][..width].as_ptr();
            let grad = self.grad[row * width..][..width].as_ptr();
            let factor = norm.factor::<S>(x);
            // With u = x factor and d = grad gamma, dx = factor (d - u mean(d u)).
            let mut product = 0f32.splat::<S>();
            let mut at = 0;
            while at < width {
                // SAFETY: rows have as many numbers, and so has the part of the sum.
                unsafe {
                    let x: Vector<S, f32> = load(x, at, width, 0.0);
                    let grad: Vector<S, f32> = load(grad, at, width, 0.0);
                    let both = grad * (x * factor.splat());
                    product = both.mul_add(load(gamma, at, width, 0.0), product);
                    let sum = self.dgamma.at(0);
                    store(sum, at, width, load(sum, at, width, 0.0) + both);
                }
                at += lanes;
            }
            let mean = product.reduce_add() / width as f32;
            let mut at = 0;
            while at < width {
                // SAFETY: as above; the row of the result is this task's.
                unsafe {
                    let u: Vector<S, f32> = load::<S>(x, at, width, 0.0) * factor.splat();
                    let d = load::<S>(grad, at, width, 0.0) * load(gamma, at, width, 0.0);
                    let dx = (d - u * mean.splat()) * factor.splat();
                    store(self.dx.at(row * width), at, width, dx);
                }
                at += lanes;
            }
        }
    }
}
