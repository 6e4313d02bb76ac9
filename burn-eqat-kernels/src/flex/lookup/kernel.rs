//! The kernel, on AVX2.

use super::super::parallel::Shared;
use super::shape::TILE_COLUMNS;
use super::tables::Tables;
use super::weight::{LookupWeight, column};
use std::arch::x86_64::*;
use std::ops::Range;

/// Prefetch distance in bytes: as much as is read during the latency of memory, and far less than the first
/// cache.
const AHEAD: usize = 8 << 10;

/// Adds the results for the columns of some tiles to `y`, for each row of the input.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run(copy: &LookupWeight, rows: &[Tables], tiles: Range<usize>, y: Shared) {
    let Some(planes) = rows.first().map(|tables| tables.planes) else {
        return;
    };
    match planes {
        1 => pass::<1>(copy, rows, tiles, y),
        _ => pass::<3>(copy, rows, tiles, y),
    }
}

#[target_feature(enable = "avx2,fma")]
fn pass<const P: usize>(copy: &LookupWeight, rows: &[Tables], tiles: Range<usize>, y: Shared) {
    let (n, width) = (copy.problem.n, tiles.len() * TILE_COLUMNS);
    // In the order of the sums; put in place at the end.
    let mut sums = vec![0f32; rows.len() * width];
    for group in 0..copy.shape.groups {
        let first = copy.place(group, tiles.start);
        for (tables, sums) in rows.iter().zip(sums.chunks_exact_mut(width)) {
            let group = Group::<P> {
                copy,
                tables,
                group,
            };
            for (tile, sums) in sums.chunks_exact_mut(TILE_COLUMNS).enumerate() {
                // SAFETY: the tile is of the block, and there are 32 sums.
                unsafe { group.tile(first + tile, sums.as_mut_ptr()) };
            }
        }
    }
    for (row, sums) in sums.chunks_exact(width).enumerate() {
        for (tile, sums) in tiles.clone().zip(sums.chunks_exact(TILE_COLUMNS)) {
            for (i, sum) in sums.iter().enumerate() {
                let column = tile * TILE_COLUMNS + column(i / 8, i % 8);
                if column < n {
                    // SAFETY: the column is in bounds, and this task's.
                    unsafe { *y.at(row * n + column) += sum };
                }
            }
        }
    }
}

/// A group of rows, and the tables of one row of the input.
struct Group<'a, const P: usize> {
    copy: &'a LookupWeight,
    tables: &'a Tables,
    group: usize,
}

/// Sums of bytes, a plane each, in 16 bits.
struct Sums<const P: usize> {
    /// Sums of both bytes of a position, with the odd byte above. The even byte's sum is this minus the odd byte's.
    both: [__m256i; P],
    odd: [__m256i; P],
}

impl<const P: usize> Sums<P> {
    /// Adds `vectors` of codes, looked up in two tables each.
    ///
    /// # Safety
    ///
    /// There are that many vectors of 32 bytes, and tables.
    #[target_feature(enable = "avx2")]
    unsafe fn add(&mut self, vectors: usize, mut codes: *const u8, mut tables: *const u8) {
        let nibble = _mm256_set1_epi8(15);
        for _ in 0..vectors {
            // SAFETY: as of the caller; the copy's lines are aligned.
            unsafe {
                let code = _mm256_load_si256(codes.cast());
                let low = _mm256_and_si256(code, nibble);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble);
                for plane in 0..P {
                    let first = _mm_loadu_si128(tables.add(plane * 16).cast());
                    let second = _mm_loadu_si128(tables.add((P + plane) * 16).cast());
                    let first = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(first), low);
                    let second = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(second), high);
                    let two = match plane {
                        0 => _mm256_avg_epu8(first, second),
                        _ => _mm256_add_epi8(first, second),
                    };
                    self.both[plane] = _mm256_add_epi16(self.both[plane], two);
                    let odd = _mm256_srli_epi16::<8>(two);
                    self.odd[plane] = _mm256_add_epi16(self.odd[plane], odd);
                }
                codes = codes.add(TILE_COLUMNS);
                tables = tables.add(2 * P * 16);
            }
        }
    }

    /// Multiplies by four: the sums belong to the codes' third bits.
    #[target_feature(enable = "avx2")]
    fn times_four(&mut self) {
        for plane in 0..P {
            self.both[plane] = _mm256_slli_epi16::<2>(self.both[plane]);
            self.odd[plane] = _mm256_slli_epi16::<2>(self.odd[plane]);
        }
    }

    /// The sums of entries, in 32 bits: four vectors of columns, in the order of [`column`].
    #[target_feature(enable = "avx2")]
    fn totals(&self) -> [__m256i; 4] {
        let mut totals = [_mm256_setzero_si256(); 4];
        for plane in (0..P).rev() {
            let odd = self.odd[plane];
            let even = _mm256_sub_epi16(self.both[plane], _mm256_slli_epi16::<8>(odd));
            let low = _mm256_set1_epi32(0xffff);
            let parts = [
                _mm256_and_si256(even, low),
                _mm256_srli_epi32::<16>(even),
                _mm256_and_si256(odd, low),
                _mm256_srli_epi32::<16>(odd),
            ];
            for (total, part) in totals.iter_mut().zip(parts) {
                *total = _mm256_add_epi32(_mm256_slli_epi32::<7>(*total), part);
            }
        }
        // The last plane was averaged.
        for total in &mut totals {
            *total = _mm256_slli_epi32::<1>(*total);
        }
        totals
    }
}

impl<const P: usize> Group<'_, P> {
    /// Adds the group's part of a tile to sums of 32 columns.
    ///
    /// # Safety
    ///
    /// The copy has such a part, of this group, and the sums are in bounds.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile(&self, place: usize, sums: *mut f32) {
        let (shape, tables) = (self.copy.shape, self.tables);
        let mut codes = self.copy.part(place);
        // In the same run: hardware looks less far ahead, and stops at the ends of pages.
        for line in (0..shape.bytes()).step_by(64) {
            let ahead = codes.wrapping_add(AHEAD + line);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        let mut totals = [_mm256_setzero_ps(); 4];
        for at in self.group * shape.chunks..(self.group + 1) * shape.chunks {
            let mut sums = Sums::<P> {
                both: [_mm256_setzero_si256(); P],
                odd: [_mm256_setzero_si256(); P],
            };
            let (pairs, high) = (shape.pairs(), shape.high());
            // SAFETY: the copy has the chunk's codes, and the tables are made for its shape.
            unsafe {
                let pair_tables = tables.pairs.as_ptr().add(at * pairs * 2 * P * 16);
                if high > 0 {
                    let tables = tables.fours.as_ptr().add(at * high * 2 * P * 16);
                    sums.add(high, codes, tables);
                    sums.times_four();
                }
                sums.add(pairs, codes.add(high * TILE_COLUMNS), pair_tables);
                codes = codes.add(shape.chunk_bytes());
            }
            let chunk = tables.chunks[at];
            let (offset, unit) = (_mm256_set1_epi32(chunk.offset), _mm256_set1_ps(chunk.unit));
            let sums = sums.totals();
            for (total, sum) in totals.iter_mut().zip(sums) {
                let sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, offset));
                *total = _mm256_fmadd_ps(sum, unit, *total);
            }
        }
        // SAFETY: the step sizes and zero points of the tile are behind its codes; sums as of the caller.
        unsafe {
            let low = self.copy.low(place);
            let scales = scales::<P>(codes, low);
            let zeros = _mm256_load_si256(codes.add(2 * TILE_COLUMNS).cast());
            let zeros = [
                zeros,
                _mm256_srli_epi32::<16>(zeros),
                _mm256_srli_epi32::<8>(zeros),
                _mm256_srli_epi32::<24>(zeros),
            ];
            let x = _mm256_set1_ps(tables.sums[self.group]);
            for i in 0..4 {
                let zero = _mm256_and_si256(zeros[i], _mm256_set1_epi32(0xff));
                let zero = _mm256_cvtepi32_ps(zero);
                let product = _mm256_fnmadd_ps(zero, x, totals[i]);
                let to = sums.add(8 * i);
                let sum = _mm256_fmadd_ps(product, scales[i], _mm256_loadu_ps(to));
                _mm256_storeu_ps(to, sum);
            }
        }
    }
}

/// Step sizes of a tile, only from their high halves if activations are quantized.
///
/// # Safety
///
/// There are 64 bytes of each half.
#[target_feature(enable = "avx2")]
unsafe fn scales<const P: usize>(high: *const u8, low: *const u8) -> [__m256; 4] {
    let mut scales = [_mm256_setzero_ps(); 4];
    for half in 0..2 {
        // SAFETY: as of the caller.
        unsafe {
            let high = _mm256_load_si256(high.add(half * 32).cast());
            let mut first = _mm256_slli_epi32::<16>(high);
            let mut second = _mm256_and_si256(high, _mm256_set1_epi32(!0xffff));
            if P > 1 {
                let low = _mm256_load_si256(low.add(half * 32).cast());
                let low_first = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(low));
                first = _mm256_add_epi32(first, low_first);
                second = _mm256_add_epi32(second, _mm256_srai_epi32::<16>(low));
            }
            scales[2 * half] = _mm256_castsi256_ps(first);
            scales[2 * half + 1] = _mm256_castsi256_ps(second);
        }
    }
    scales
}
