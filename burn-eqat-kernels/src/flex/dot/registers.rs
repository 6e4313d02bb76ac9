//! The registers and instructions that the kernel needs.

/// Vectors of 32-bit lanes, a column in each, with integer dot products.
///
/// # Safety
///
/// Methods may only be called if the CPU has the instructions of the implementation, and pointers must be valid for
/// a whole vector.
pub(super) trait Registers {
    /// Columns in a vector.
    const LANES: usize;
    /// Integers: words, four codes or digits each, or sums.
    type Words: Copy;
    /// Sums of products of bytes.
    type Sums: Copy;
    /// Floats.
    type Floats: Copy;

    unsafe fn load(words: *const u32) -> Self::Words;
    unsafe fn splat(word: u32) -> Self::Words;
    unsafe fn and(a: Self::Words, b: Self::Words) -> Self::Words;
    unsafe fn or(a: Self::Words, b: Self::Words) -> Self::Words;
    unsafe fn shl<const BY: i32>(a: Self::Words) -> Self::Words;
    unsafe fn shr<const BY: i32>(a: Self::Words) -> Self::Words;
    unsafe fn add(a: Self::Words, b: Self::Words) -> Self::Words;
    /// `b` in the bytes set in `mask`, else `a`.
    unsafe fn blend(a: Self::Words, b: Self::Words, mask: u32) -> Self::Words;

    unsafe fn none() -> Self::Sums;
    /// Adds products of unsigned `codes` and signed `digits`, byte by byte, to sums of their lane.
    unsafe fn dot(sums: Self::Sums, codes: Self::Words, digits: Self::Words) -> Self::Sums;
    /// One sum per lane, as a 32-bit integer.
    unsafe fn total(sums: Self::Sums) -> Self::Words;

    /// The eight fields of `BITS` bits in `low` and then (if there are more than eight lanes) those in `high`: zero points
    /// of neighbouring columns.
    unsafe fn fields<const BITS: usize>(low: u64, high: u64) -> Self::Floats;
    unsafe fn floats(integers: Self::Words) -> Self::Floats;
    unsafe fn load_floats(from: *const f32) -> Self::Floats;
    unsafe fn store_floats(to: *mut f32, value: Self::Floats);
    unsafe fn splat_float(value: f32) -> Self::Floats;
    /// `a * b + c`.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `c - a * b`.
    unsafe fn mul_sub_from(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
}
