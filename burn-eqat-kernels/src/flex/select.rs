//! Selects the strategy of a matmul with a packed weight. All such decisions are made here.

use super::level::Level;
use crate::problem::Problem;
use crate::{Activations, Bits};

/// A strategy for a matmul with a packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Looks products up in tables, from a copy of the weight ([`super::lookup`]).
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    Lookup,
    /// Integer dot products of the codes with the input, which is split into `digits` ([`super::dot`]).
    Dots { digits: usize },
    /// Codes become floats in registers, for few rows ([`super::matvec`]).
    Matvec,
    /// Tiles of the weight are unpacked and multiplied ([`super::matmul`]).
    Tiles,
}

/// The most input rows for lookups; the words are faster for more.
const LOOKUP_ROWS: usize = 4;

/// The same, for quantized activations.
const LOOKUP_ROWS_INT8: usize = 1;

/// Digits of an exact input.
pub(super) const EXACT_DIGITS: usize = 3;

/// The most input rows for [`super::matvec`]; tiles are faster for more.
const MATVEC_ROWS: usize = 8;

/// The strategies for a matmul, fastest first. The last one supports every input; the others may refuse an
/// input that their integers cannot hold.
///
/// `copied` is true if there is a copy of the weight for lookups.
pub(super) fn strategies(
    level: Level,
    problem: &Problem,
    copied: bool,
    activations: Activations,
) -> impl Iterator<Item = Strategy> {
    let int8 = activations == Activations::Int8;
    let lookup_rows = if int8 { LOOKUP_ROWS_INT8 } else { LOOKUP_ROWS };
    let lookup = copied && dots(level, problem.bits) && (1..=lookup_rows).contains(&problem.m);
    let dot_digits = if !dots(level, problem.bits) || !problem.aligned() {
        None
    } else if int8 && problem.bits != Bits::Eight {
        Some(1)
    } else {
        // With eight bits always: they stay as exact as they are.
        (problem.m <= exact_dot_rows(level)).then_some(EXACT_DIGITS)
    };
    let last = if problem.m <= MATVEC_ROWS && problem.aligned() {
        Strategy::Matvec
    } else {
        Strategy::Tiles
    };
    let lookup = lookup.then_some(Strategy::Lookup);
    let dots = dot_digits.map(|digits| Strategy::Dots { digits });
    lookup.into_iter().chain(dots).chain([last])
}

/// Whether the CPU has integer dot products of such codes at this level.
fn dots(level: Level, bits: Bits) -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return match bits {
        // Their sums would overflow 16 bits.
        Bits::Eight => level.byte_dots(),
        _ => level.dots(),
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = (level, bits);
        false
    }
}

/// The most input rows for exact integer products; floats are faster for more.
fn exact_dot_rows(level: Level) -> usize {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return level.exact_dot_rows();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = level;
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(m: usize, bits: Bits, group: usize, copied: bool, int8: bool) -> Vec<Strategy> {
        let problem = Problem {
            m,
            k: 4 * group,
            n: 70,
            groups: 4,
            bits,
        };
        let level = Level::available().last().expect("the portable level");
        let activations = if int8 {
            Activations::Int8
        } else {
            Activations::Exact
        };
        strategies(level, &problem, copied, activations).collect()
    }

    #[test]
    fn every_input_is_taken_in_the_end() {
        for level in Level::available() {
            for bits in Bits::ALL {
                for (m, group) in [(0, 5), (1, 64), (8, 13), (9, 64), (300, 7)] {
                    let (k, n, groups) = (group, 3, 1);
                    let problem = Problem {
                        m,
                        k,
                        n,
                        groups,
                        bits,
                    };
                    let last = strategies(level, &problem, true, Activations::Int8).last();
                    assert!(matches!(last, Some(Strategy::Matvec | Strategy::Tiles)));
                }
            }
        }
    }

    #[test]
    fn the_fastest_strategy_comes_first() {
        use Strategy::{Dots, Lookup, Matvec, Tiles};
        assert_eq!(chosen(9, Bits::Two, 64, false, false), [Tiles]);
        // Blocks of words lie over two groups.
        assert_eq!(chosen(1, Bits::Two, 5, false, true), [Tiles]);
        let level = Level::available().last().expect("the portable level");
        if !dots(level, Bits::Eight) {
            assert_eq!(chosen(8, Bits::Eight, 64, false, false), [Matvec]);
        } else {
            let exact = Dots { digits: 3 };
            assert_eq!(chosen(1, Bits::Eight, 64, false, true), [exact, Matvec]);
        }
        if dots(level, Bits::Two) {
            let (exact, int8) = (Dots { digits: 3 }, Dots { digits: 1 });
            assert_eq!(
                chosen(1, Bits::Two, 64, true, false),
                [Lookup, exact, Matvec]
            );
            let in_integers = match exact_dot_rows(level) >= 4 {
                true => vec![Lookup, exact, Matvec],
                false => vec![Lookup, Matvec],
            };
            assert_eq!(chosen(4, Bits::Two, 64, true, false), in_integers);
            assert_eq!(chosen(1, Bits::Four, 64, false, false), [exact, Matvec]);
            assert_eq!(chosen(4, Bits::Two, 64, true, true), [int8, Matvec]);
            assert_eq!(chosen(40, Bits::Three, 64, false, true), [int8, Tiles]);
        }
    }
}
