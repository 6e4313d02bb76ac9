//! AVX2, and AVX-512 with VNNI.

use super::super::level::Level;
use super::super::weight::Weight;
use super::digits::Digits;
use super::kernel::{Run, Task};
use super::registers::Registers;
use std::arch::x86_64::*;

/// 256-bit vectors: byte products are added in pairs, to 16 bits.
pub(super) struct Avx2;

/// 512-bit vectors: four byte products are added to 32 bits at once.
pub(super) struct Vnni;

#[target_feature(enable = "avx2,fma")]
fn run_avx2(task: Task) {
    // SAFETY: the features of this function are those that the registers need.
    unsafe { Run::<Avx2>::run(task) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
fn run_vnni(task: Task) {
    // SAFETY: as above.
    unsafe { Run::<Vnni>::run(task) }
}

/// [`Level::dots`].
pub(super) fn dots(level: Level) -> bool {
    matches!(level.name(), "avx2" | "avx512")
}

/// [`Level::byte_dots`]: AVX2 adds products in pairs to 16 bits, which those of whole bytes would overflow.
pub(super) fn byte_dots(level: Level) -> bool {
    level.name() == "avx512" && is_x86_feature_detected!("avx512vnni")
}

/// [`Digits::new`], with the instructions of every level with dot products.
#[target_feature(enable = "avx2,fma")]
pub(super) fn cut(weight: &Weight, x: &[f32], rows: usize, digits: usize) -> Option<Digits> {
    Digits::new(weight, x, rows, digits)
}

/// Runs the kernel.
///
/// # Safety
///
/// The level has [`dots`].
pub(super) unsafe fn run(level: Level, task: Task) {
    // SAFETY: the CPU has what the level stands for, and VNNI was asked for.
    unsafe {
        match byte_dots(level) {
            true => run_vnni(task),
            false => run_avx2(task),
        }
    }
}

impl Registers for Avx2 {
    const LANES: usize = 8;
    type Words = __m256i;
    type Sums = __m256i;
    type Floats = __m256;

    #[inline(always)]
    unsafe fn load(words: *const u32) -> __m256i {
        unsafe { _mm256_loadu_si256(words.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> __m256i {
        unsafe { _mm256_set1_epi32(word as i32) }
    }
    #[inline(always)]
    unsafe fn and(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn shl<const BY: i32>(a: __m256i) -> __m256i {
        unsafe { _mm256_slli_epi32::<BY>(a) }
    }
    #[inline(always)]
    unsafe fn shr<const BY: i32>(a: __m256i) -> __m256i {
        unsafe { _mm256_srli_epi32::<BY>(a) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn blend(a: __m256i, b: __m256i, mask: u32) -> __m256i {
        unsafe { _mm256_blendv_epi8(a, b, _mm256_set1_epi32(mask as i32)) }
    }
    #[inline(always)]
    unsafe fn none() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m256i, codes: __m256i, digits: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, digits)) }
    }
    #[inline(always)]
    unsafe fn total(sums: __m256i) -> __m256i {
        unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
    }
    #[inline(always)]
    unsafe fn fields<const BITS: usize>(low: u64, _high: u64) -> __m256 {
        unsafe {
            if BITS == 8 {
                let bytes = _mm_cvtsi64_si128(low as i64);
                return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
            }
            let b = BITS as i32;
            let shifts = _mm256_setr_epi32(0, b, 2 * b, 3 * b, 4 * b, 5 * b, 6 * b, 7 * b);
            let fields = _mm256_srlv_epi32(_mm256_set1_epi32(low as i32), shifts);
            let mask = _mm256_set1_epi32((1 << BITS) - 1);
            _mm256_cvtepi32_ps(_mm256_and_si256(fields, mask))
        }
    }
    #[inline(always)]
    unsafe fn floats(integers: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(integers) }
    }
    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store_floats(to: *mut f32, value: __m256) {
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn mul_sub_from(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }
}

impl Registers for Vnni {
    const LANES: usize = 16;
    type Words = __m512i;
    type Sums = __m512i;
    type Floats = __m512;

    #[inline(always)]
    unsafe fn load(words: *const u32) -> __m512i {
        unsafe { _mm512_loadu_si512(words.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(word as i32) }
    }
    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn shl<const BY: i32>(a: __m512i) -> __m512i {
        unsafe { _mm512_sllv_epi32(a, _mm512_set1_epi32(BY)) }
    }
    #[inline(always)]
    unsafe fn shr<const BY: i32>(a: __m512i) -> __m512i {
        unsafe { _mm512_srlv_epi32(a, _mm512_set1_epi32(BY)) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn blend(a: __m512i, b: __m512i, mask: u32) -> __m512i {
        unsafe {
            let mask = _mm512_set1_epi32(mask as i32);
            _mm512_or_si512(_mm512_andnot_si512(mask, a), _mm512_and_si512(mask, b))
        }
    }
    #[inline(always)]
    unsafe fn none() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, codes: __m512i, digits: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, codes, digits) }
    }
    #[inline(always)]
    unsafe fn total(sums: __m512i) -> __m512i {
        sums
    }
    #[inline(always)]
    unsafe fn fields<const BITS: usize>(low: u64, high: u64) -> __m512 {
        unsafe {
            let low = Avx2::fields::<BITS>(low, 0);
            let high = Avx2::fields::<BITS>(high, 0);
            let both = _mm512_castps_pd(_mm512_castps256_ps512(low));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(both, _mm256_castps_pd(high)))
        }
    }
    #[inline(always)]
    unsafe fn floats(integers: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(integers) }
    }
    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store_floats(to: *mut f32, value: __m512) {
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn mul_sub_from(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
}
