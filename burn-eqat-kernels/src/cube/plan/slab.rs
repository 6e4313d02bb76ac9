//! Slabs: parts of a weight small enough to be dequantized at once.

use std::ops::Range;

/// The most bytes of a slab of dense weights, or of their gradient.
pub(crate) const SLAB_BYTES: usize = 64 << 20;

/// Splits `total` lines of `line_bytes` each into ranges that fit in [`SLAB_BYTES`]. Each range begins at a
/// multiple of `unit` and has at least `unit` lines.
pub(crate) fn slabs(
    total: usize,
    line_bytes: usize,
    unit: usize,
) -> impl ExactSizeIterator<Item = Range<usize>> {
    let lines = (SLAB_BYTES / line_bytes.max(1) / unit * unit).max(unit);
    (0..total.div_ceil(lines)).map(move |i| i * lines..((i + 1) * lines).min(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_cover_everything_once() {
        let ranges: Vec<_> = slabs(28672, 8192 * 2, 32).collect();
        assert_eq!(ranges.len(), 7);
        assert_eq!(ranges[0], 0..4096);
        assert_eq!(ranges[6], 24576..28672);
        assert!(ranges.iter().all(|r| r.len() * 8192 * 2 <= SLAB_BYTES));
        assert_eq!(slabs(100, 4, 32).next(), Some(0..100));
        assert_eq!(slabs(100, 4, 32).len(), 1);
        assert_eq!(slabs(0, 4, 32).len(), 0);
        // Lines longer than a slab are taken a unit at a time.
        assert_eq!(slabs(70, SLAB_BYTES, 32).len(), 3);
    }
}
