//! How work is split over a device, worked out on the host before anything is launched.
//!
//! Nothing here touches a device or names CubeCL: a plan is made from a problem's sizes and a
//! device's [`Limits`], so every choice is tested without one. What a device cannot do shows here,
//! as a plan that is not made.

mod fragment;
mod gemv;
mod limits;
mod route;
mod rows;
mod slab;
mod tile;

pub(crate) use fragment::Fragment;
pub(crate) use gemv::GemvPlan;
pub(crate) use limits::Limits;
pub(crate) use route::{Route, routes};
pub(crate) use rows::{ColumnPlan, GroupCube, GroupPlan};
pub(crate) use slab::slabs;
pub(crate) use tile::{DEPTH, Engine, Product, TilePlan};

/// The largest power of two that is at most `n`, which is not 0.
pub(crate) fn power_at_most(n: usize) -> usize {
    (n / 2 + 1).next_power_of_two()
}

/// The widest power of two, `at_most` as wide, that divides `n`.
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
