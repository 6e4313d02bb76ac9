//! Powers of two that sizes are rounded to.

/// The largest power of two that is at most `n`, which is not 0.
pub(crate) fn power_at_most(n: usize) -> usize {
    (n / 2 + 1).next_power_of_two()
}

/// The largest power of two up to `at_most` that divides `n`.
pub(crate) fn vector_width(n: usize, at_most: usize) -> usize {
    let mut width = 1;
    while width * 2 <= at_most && n.is_multiple_of(width * 2) {
        width *= 2;
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two() {
        let powers: Vec<usize> = [1, 2, 3, 4, 7, 8, 9].map(power_at_most).to_vec();
        assert_eq!(powers, [1, 2, 2, 4, 4, 8, 8]);
    }

    #[test]
    fn vectors_divide_the_columns() {
        assert_eq!(vector_width(12, 4), 4);
        assert_eq!(vector_width(12, 16), 4);
        assert_eq!(vector_width(6, 4), 2);
        assert_eq!(vector_width(7, 4), 1);
        assert_eq!(vector_width(0, 4), 4);
    }
}
