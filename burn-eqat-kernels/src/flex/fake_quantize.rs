//! Fake quantization: forward and backward each take one pass over the weight. The arithmetic follows the portable
//! body, operation by operation, so values agree to the bit.

use super::level::Level;
use super::parallel::{self, Shared};
use crate::portable::{SCALE_MAX, SCALE_MIN};
use macerator::{Scalar, Simd, Vector, WithSimd, vload_unaligned, vstore_unaligned};
use std::ops::Range;

/// A weight in training and its quantizer.
#[derive(Clone, Copy)]
pub(super) struct Quantizer<'a> {
    /// `[k, n]`.
    pub weight: &'a [f32],
    /// `[groups, n]`, as trained.
    pub scales: &'a [f32],
    /// As the step sizes.
    pub zero_points: &'a [f32],
    pub groups: usize,
    pub n: usize,
    pub max_code: f32,
}

/// Gradients: of the output, and by weight, step sizes and zero points.
pub(super) struct Gradients<'a> {
    pub out: &'a [f32],
    pub weight: &'a mut [f32],
    pub scales: &'a mut [f32],
    pub zero_points: &'a mut [f32],
}

impl Quantizer<'_> {
    /// `w' [k, n]`.
    pub fn forward(&self, level: Level, out: &mut [f32]) {
        let out = Shared::new(out);
        self.each(|group, columns| {
            level.run(Forward {
                of: self,
                group,
                columns,
                out,
            })
        });
    }

    /// Gradients by `w`, `s` and `z`, straight through the roundings and the clamps of `s` and `z`.
    pub fn backward(&self, level: Level, gradients: Gradients) {
        let Gradients {
            out,
            weight,
            scales,
            zero_points,
        } = gradients;
        let [w, s, z] = [weight, scales, zero_points].map(Shared::new);
        self.each(|group, columns| {
            level.run(Backward {
                of: self,
                group,
                columns,
                out,
                w,
                s,
                z,
            })
        });
    }

    fn rows(&self) -> usize {
        self.weight.len() / (self.groups * self.n).max(1)
    }

    /// Runs `task` for each group, and for parts of its columns if there are more threads than groups.
    fn each(&self, task: impl Fn(usize, Range<usize>) + Send + Sync) {
        // Each weight takes a division and a few more operations.
        let threads = parallel::threads(self.weight.len() * 4);
        let parts = threads.div_ceil(self.groups.max(1)).max(1);
        parallel::each(self.groups * parts, threads, |at| {
            task(at / parts, parallel::part(self.n, 16, parts, at % parts))
        });
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(&self, group: usize, column: usize) -> Prepared<S> {
        let at = group * self.n + column;
        // SAFETY: as of the caller.
        unsafe {
            let s = vload_unaligned(self.scales.as_ptr().add(at));
            let z: Vector<S, f32> = vload_unaligned(self.zero_points.as_ptr().add(at));
            let max = self.max_code.splat();
            Prepared {
                s: clamp(s, (SCALE_MIN as f32).splat(), (SCALE_MAX as f32).splat()),
                z: clamp(z.round_ties_even(), 0f32.splat(), max),
                max,
            }
        }
    }

    fn scalar(&self, group: usize, column: usize) -> [f32; 2] {
        let at = group * self.n + column;
        [
            self.scales[at].clamp(SCALE_MIN as f32, SCALE_MAX as f32),
            self.zero_points[at]
                .round_ties_even()
                .clamp(0.0, self.max_code),
        ]
    }
}

/// Step sizes and zero points of a group, clamped and rounded.
#[derive(Clone, Copy)]
struct Prepared<S: Simd> {
    s: Vector<S, f32>,
    z: Vector<S, f32>,
    max: Vector<S, f32>,
}

/// Like `f32::clamp`, which lets NaN through, so that a diverged weight shows.
#[inline(always)]
fn clamp<S: Simd>(x: Vector<S, f32>, low: Vector<S, f32>, high: Vector<S, f32>) -> Vector<S, f32> {
    let x = x.lt(low).select(low, x);
    x.gt(high).select(high, x)
}

struct Forward<'a> {
    of: &'a Quantizer<'a>,
    group: usize,
    columns: Range<usize>,
    out: Shared,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Forward { of, group, .. } = self;
        let (n, rows) = (of.n, of.rows());
        let lanes = S::lanes32();
        // Row by row through memory; the group's step sizes stay in the first cache.
        for i in group * rows..(group + 1) * rows {
            let mut column = self.columns.start;
            while column + lanes <= self.columns.end {
                // SAFETY: groups, rows and columns are in bounds.
                unsafe {
                    let Prepared { s, z, max } = of.load::<S>(group, column);
                    let w: Vector<S, f32> = vload_unaligned(of.weight.as_ptr().add(i * n + column));
                    let code = clamp((w / s).round_ties_even() + z, 0f32.splat(), max);
                    vstore_unaligned(self.out.at(i * n + column), (code - z) * s);
                }
                column += lanes;
            }
            for column in column..self.columns.end {
                let [s, z] = of.scalar(group, column);
                let code = (of.weight[i * n + column] / s).round_ties_even() + z;
                let level = code.clamp(0.0, of.max_code) - z;
                // SAFETY: as above.
                unsafe { self.out.at(i * n + column).write(level * s) };
            }
        }
    }
}

struct Backward<'a> {
    of: &'a Quantizer<'a>,
    group: usize,
    columns: Range<usize>,
    out: &'a [f32],
    w: Shared,
    s: Shared,
    z: Shared,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Backward { of, group, .. } = self;
        let n = of.n;
        let lanes = S::lanes32();
        let mut column = self.columns.start;
        while column + lanes <= self.columns.end {
            // SAFETY: groups, rows and columns are in bounds.
            unsafe { self.vector::<S>(column) };
            column += lanes;
        }
        for column in column..self.columns.end {
            let [s, z] = of.scalar(group, column);
            let (mut ds, mut dz) = (0.0, 0.0);
            for i in group * of.rows()..(group + 1) * of.rows() {
                let (grad, ratio) = (self.out[i * n + column], of.weight[i * n + column] / s);
                let code = ratio.round_ties_even() + z;
                let inside = code >= 0.0 && code <= of.max_code;
                let level = code.clamp(0.0, of.max_code) - z;
                ds += grad * (level - if inside { ratio } else { 0.0 });
                dz -= if inside { 0.0 } else { grad * s };
                let dw = if inside { grad } else { 0.0 };
                // SAFETY: as above.
                unsafe { self.w.at(i * n + column).write(dw) };
            }
            // SAFETY: as above.
            unsafe {
                self.s.at(group * n + column).write(ds);
                self.z.at(group * n + column).write(dz);
            }
        }
    }
}

impl Backward<'_> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, column: usize) {
        let (of, n) = (self.of, self.of.n);
        // SAFETY: as of the caller.
        unsafe {
            let Prepared { s, z, max } = of.load::<S>(self.group, column);
            let zero = 0f32.splat::<S>();
            let (mut ds, mut blocked) = (zero, zero);
            for i in self.group * of.rows()..(self.group + 1) * of.rows() {
                let at = i * n + column;
                let grad: Vector<S, f32> = vload_unaligned(self.out.as_ptr().add(at));
                let w: Vector<S, f32> = vload_unaligned(of.weight.as_ptr().add(at));
                let ratio = w / s;
                let code = ratio.round_ties_even() + z;
                let inside = || code.ge(zero).and(code.le(max));
                let level = clamp(code, zero, max) - z;
                ds += grad * (level - inside().select(ratio, zero));
                let dw = inside().select(grad, zero);
                blocked += grad - dw;
                vstore_unaligned(self.w.at(at), dw);
            }
            vstore_unaligned(self.s.at(self.group * n + column), ds);
            vstore_unaligned(self.z.at(self.group * n + column), zero - blocked * s);
        }
    }
}
