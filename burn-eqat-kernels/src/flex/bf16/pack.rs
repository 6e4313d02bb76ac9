//! Operands in pairs of bf16 numbers.

use super::super::matrix::Matrix;
use burn::tensor::bf16;
use std::arch::x86_64::*;

/// Numbers of a vector of pairs.
const LANES: usize = 16;

/// The order of an operand's numbers in memory. A *line* is a row of the left operand or a column of the right one; its
/// numbers lie along the sum.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// The numbers of a line are neighbours, and lines are so far apart.
    Along(usize),
    /// Lines are neighbours, and the numbers of a line are so far apart.
    Across(usize),
}

impl Order {
    pub fn left<T>(matrix: &Matrix<T>) -> Self {
        Self::of(matrix.column, matrix.row)
    }

    pub fn right<T>(matrix: &Matrix<T>) -> Self {
        Self::of(matrix.row, matrix.column)
    }

    fn of(in_line: usize, between_lines: usize) -> Self {
        if in_line == 1 {
            Order::Along(between_lines)
        } else {
            assert_eq!(between_lines, 1, "an operand has no neighbours");
            Order::Across(in_line)
        }
    }
}

/// A type of numbers that are read as pairs of bf16.
pub(super) trait Element: Copy {
    /// Up to 16 numbers each of two rows, as pairs of one of each.
    ///
    /// # Safety
    ///
    /// The CPU has the instructions, and the numbers set in the masks are in bounds.
    unsafe fn interleaved(rows: [*const Self; 2], masks: [u16; 2]) -> __m512i;

    /// Up to 32 neighbours, as pairs.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn neighbours(first: *const Self, mask: u32) -> __m512i;

    /// The same numbers, if they are in bf16.
    fn in_bf16(first: *const Self) -> Option<*const bf16>;
}

impl Element for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn interleaved(rows: [*const f32; 2], masks: [u16; 2]) -> __m512i {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut i = 0;
            while i < 32 {
                order[i] = (i / 2 + i % 2 * 16) as u16;
                i += 1;
            }
            order
        };
        // SAFETY: as of the caller.
        unsafe {
            let low = _mm512_maskz_loadu_ps(masks[0], rows[0]);
            let high = _mm512_maskz_loadu_ps(masks[1], rows[1]);
            let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
            _mm512_permutexvar_epi16(order, both)
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn neighbours(first: *const f32, mask: u32) -> __m512i {
        // SAFETY: as of the caller.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask as u16, first);
            let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, first.wrapping_add(LANES));
            std::mem::transmute(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    fn in_bf16(_: *const f32) -> Option<*const bf16> {
        None
    }
}

impl Element for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn interleaved(rows: [*const bf16; 2], masks: [u16; 2]) -> __m512i {
        // SAFETY: as of the caller.
        unsafe {
            let low = _mm256_maskz_loadu_epi16(masks[0], rows[0].cast());
            let high = _mm256_maskz_loadu_epi16(masks[1], rows[1].cast());
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
            _mm512_or_si512(_mm512_cvtepu16_epi32(low), high)
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn neighbours(first: *const bf16, mask: u32) -> __m512i {
        // SAFETY: as of the caller.
        unsafe { _mm512_maskz_loadu_epi16(mask, first.cast()) }
    }

    fn in_bf16(first: *const bf16) -> Option<*const bf16> {
        Some(first)
    }
}

/// Packs `lines` lines of `len` numbers, the first of which is `first`, to `[pairs, WIDTH]`. What a pair or the lines lack is 0,
/// up to a whole vector of lines.
///
/// # Safety
///
/// The CPU has AVX-512 BF16, and the operand has these numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack<T: Element, const WIDTH: usize>(
    first: *const T,
    order: Order,
    [lines, len]: [usize; 2],
    to: &mut [u32],
) {
    let pairs = len.div_ceil(2);
    assert!(lines <= WIDTH && to.len() >= pairs * WIDTH && WIDTH.is_multiple_of(LANES));
    let to = to.as_mut_ptr();
    // SAFETY: these numbers are in bounds, and `to` has room for a whole vector of each pair.
    unsafe {
        match order {
            Order::Across(stride) => {
                for pair in 0..pairs {
                    for line in (0..lines).step_by(LANES) {
                        let mask = u16::MAX >> (LANES - (lines - line).min(LANES));
                        let row = first.wrapping_add(2 * pair * stride + line);
                        let other = if 2 * pair + 1 < len { mask } else { 0 };
                        let rows = [row, row.wrapping_add(stride)];
                        let pairs = T::interleaved(rows, [mask, other]);
                        _mm512_storeu_si512(to.add(pair * WIDTH + line).cast(), pairs);
                    }
                }
            }
            Order::Along(stride) => {
                for line in (0..lines).step_by(LANES) {
                    let some = (lines - line).min(LANES);
                    for pair in (0..pairs).step_by(LANES) {
                        let left = (len - 2 * pair).min(2 * LANES);
                        let mask = u32::MAX >> (2 * LANES - left);
                        let mut square = [_mm512_setzero_si512(); LANES];
                        for (i, of_line) in square.iter_mut().enumerate().take(some) {
                            let from = first.wrapping_add((line + i) * stride + 2 * pair);
                            *of_line = T::neighbours(from, mask);
                        }
                        let square = transposed(square);
                        for (i, of_pair) in square.iter().enumerate().take(left.div_ceil(2)) {
                            let to = to.add((pair + i) * WIDTH + line);
                            _mm512_storeu_si512(to.cast(), *of_pair);
                        }
                    }
                }
            }
        }
    }
}

/// A square of 16 by 16 words, transposed: in quarters of vectors, and then of these.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let zero = _mm512_setzero_si512();
    // `quarters[of][j]` has, in quarter `i`, column `4 i + j` of rows `4 of` to `4 of + 3`.
    let mut quarters = [[zero; 4]; 4];
    for (of, quarter) in quarters.iter_mut().enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| rows[4 * of + row]);
        let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        *quarter = [
            _mm512_unpacklo_epi64(low, low2),
            _mm512_unpackhi_epi64(low, low2),
            _mm512_unpacklo_epi64(high, high2),
            _mm512_unpackhi_epi64(high, high2),
        ];
    }
    let mut columns = [zero; LANES];
    for j in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|of| quarters[of][j]);
        // Quarters 0 and 2, and 1 and 3, of two vectors.
        let even = _mm512_shuffle_i32x4::<0x88>(a, b);
        let even2 = _mm512_shuffle_i32x4::<0x88>(c, d);
        let odd = _mm512_shuffle_i32x4::<0xdd>(a, b);
        let odd2 = _mm512_shuffle_i32x4::<0xdd>(c, d);
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even, even2);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd2);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even2);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd2);
    }
    columns
}
