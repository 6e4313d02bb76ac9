//! NEON with Arm's `dotprod` instructions, which every Apple M, Neoverse and newer phone has.

use super::super::level::Level;
use super::super::weight::Weight;
use super::digits::Digits;
use super::kernel::{Run, Task};
use super::registers::Registers;
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

/// Two 128-bit vectors, so that digits are read once for eight columns. There are enough registers, 32.
pub(super) struct Neon;

#[target_feature(enable = "neon,dotprod")]
fn run_neon(task: Task) {
    // SAFETY: the features of this function are those that the registers need.
    unsafe { Run::<Neon>::run(task) }
}

/// [`Level::dots`].
pub(super) fn dots(level: Level) -> bool {
    level.name() == "neon" && is_aarch64_feature_detected!("dotprod")
}

/// [`Level::byte_dots`]: `sdot` takes codes as signed.
pub(super) fn byte_dots(_level: Level) -> bool {
    false
}

/// [`Digits::new`].
#[target_feature(enable = "neon")]
pub(super) fn cut(weight: &Weight, x: &[f32], rows: usize, digits: usize) -> Option<Digits> {
    Digits::new(weight, x, rows, digits)
}

/// Runs the kernel.
///
/// # Safety
///
/// The level has [`dots`].
pub(super) unsafe fn run(_level: Level, task: Task) {
    // SAFETY: the CPU has the instructions.
    unsafe { run_neon(task) }
}

/// Adds products of signed bytes, four in each lane.
///
/// # Safety
///
/// Must be inlined into code with the feature `dotprod`.
// The intrinsic is not stable yet.
#[inline(always)]
unsafe fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

// No closures in here: they would not have the instructions.
impl Registers for Neon {
    const LANES: usize = 8;
    type Words = [uint32x4_t; 2];
    type Sums = [int32x4_t; 2];
    type Floats = [float32x4_t; 2];

    #[inline(always)]
    unsafe fn load(words: *const u32) -> [uint32x4_t; 2] {
        unsafe { [vld1q_u32(words), vld1q_u32(words.add(4))] }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> [uint32x4_t; 2] {
        unsafe { [vdupq_n_u32(word); 2] }
    }
    #[inline(always)]
    unsafe fn and(a: [uint32x4_t; 2], b: [uint32x4_t; 2]) -> [uint32x4_t; 2] {
        unsafe { [vandq_u32(a[0], b[0]), vandq_u32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn or(a: [uint32x4_t; 2], b: [uint32x4_t; 2]) -> [uint32x4_t; 2] {
        unsafe { [vorrq_u32(a[0], b[0]), vorrq_u32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn shl<const BY: i32>(a: [uint32x4_t; 2]) -> [uint32x4_t; 2] {
        unsafe { [vshlq_n_u32::<BY>(a[0]), vshlq_n_u32::<BY>(a[1])] }
    }
    #[inline(always)]
    unsafe fn shr<const BY: i32>(a: [uint32x4_t; 2]) -> [uint32x4_t; 2] {
        unsafe { [vshrq_n_u32::<BY>(a[0]), vshrq_n_u32::<BY>(a[1])] }
    }
    #[inline(always)]
    unsafe fn add(a: [uint32x4_t; 2], b: [uint32x4_t; 2]) -> [uint32x4_t; 2] {
        unsafe { [vaddq_u32(a[0], b[0]), vaddq_u32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn blend(a: [uint32x4_t; 2], b: [uint32x4_t; 2], mask: u32) -> [uint32x4_t; 2] {
        unsafe {
            let mask = vdupq_n_u32(mask);
            [vbslq_u32(mask, b[0], a[0]), vbslq_u32(mask, b[1], a[1])]
        }
    }
    #[inline(always)]
    unsafe fn none() -> [int32x4_t; 2] {
        unsafe { [vdupq_n_s32(0); 2] }
    }
    #[inline(always)]
    unsafe fn dot(
        sums: [int32x4_t; 2],
        codes: [uint32x4_t; 2],
        digits: [uint32x4_t; 2],
    ) -> [int32x4_t; 2] {
        // Codes are less than 128: the same signed.
        unsafe {
            [
                sdot(
                    sums[0],
                    vreinterpretq_s8_u32(codes[0]),
                    vreinterpretq_s8_u32(digits[0]),
                ),
                sdot(
                    sums[1],
                    vreinterpretq_s8_u32(codes[1]),
                    vreinterpretq_s8_u32(digits[1]),
                ),
            ]
        }
    }
    #[inline(always)]
    unsafe fn total(sums: [int32x4_t; 2]) -> [uint32x4_t; 2] {
        unsafe {
            [
                vreinterpretq_u32_s32(sums[0]),
                vreinterpretq_u32_s32(sums[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn fields<const BITS: usize>(low: u64, _high: u64) -> [float32x4_t; 2] {
        unsafe {
            if BITS == 8 {
                let bytes = vmovl_u8(vcreate_u8(low));
                return [
                    vcvtq_f32_u32(vmovl_u16(vget_low_u16(bytes))),
                    vcvtq_f32_u32(vmovl_u16(vget_high_u16(bytes))),
                ];
            }
            let (b, mask) = (BITS as i32, vdupq_n_u32((1 << BITS) - 1));
            // To the left by less than nothing is to the right.
            let shifts: [i32; 8] = [0, -b, -2 * b, -3 * b, -4 * b, -5 * b, -6 * b, -7 * b];
            let low = vdupq_n_u32(low as u32);
            let first = vshlq_u32(low, vld1q_s32(shifts.as_ptr()));
            let second = vshlq_u32(low, vld1q_s32(shifts.as_ptr().add(4)));
            [
                vcvtq_f32_u32(vandq_u32(first, mask)),
                vcvtq_f32_u32(vandq_u32(second, mask)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn floats(integers: [uint32x4_t; 2]) -> [float32x4_t; 2] {
        unsafe {
            [
                vcvtq_f32_s32(vreinterpretq_s32_u32(integers[0])),
                vcvtq_f32_s32(vreinterpretq_s32_u32(integers[1])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> [float32x4_t; 2] {
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] }
    }
    #[inline(always)]
    unsafe fn store_floats(to: *mut f32, value: [float32x4_t; 2]) {
        unsafe {
            vst1q_f32(to, value[0]);
            vst1q_f32(to.add(4), value[1]);
        }
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> [float32x4_t; 2] {
        unsafe { [vdupq_n_f32(value); 2] }
    }
    #[inline(always)]
    unsafe fn mul_add(
        a: [float32x4_t; 2],
        b: [float32x4_t; 2],
        c: [float32x4_t; 2],
    ) -> [float32x4_t; 2] {
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul_sub_from(
        a: [float32x4_t; 2],
        b: [float32x4_t; 2],
        c: [float32x4_t; 2],
    ) -> [float32x4_t; 2] {
        unsafe { [vfmsq_f32(c[0], a[0], b[0]), vfmsq_f32(c[1], a[1], b[1])] }
    }
}
