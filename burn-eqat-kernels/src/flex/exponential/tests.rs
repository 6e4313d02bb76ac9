//! Values and gradients against f64 and against Burn's own ops, at every level of this CPU.

use super::super::level::Level;
use super::super::parallel::Shared;
use super::kernel::{self, Scores};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn exp(level: Level, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let (from, to) = (Shared::reading(x), Shared::new(&mut y));
    // SAFETY: there are as many of both.
    unsafe { kernel::run(level, kernel::Exp, [from], [to], x.len()) };
    y
}

#[test]
fn exponentials_are_off_by_two_roundings_at_most() {
    // All magnitudes, and closely where results are subnormal or close to infinity.
    let small = (-4000..4000).map(|i| i as f32 * 1e-4);
    let all = (-110_000..90_000).map(|i| i as f32 * 1e-3);
    let x: Vec<f32> = small.chain(all).collect();
    for level in Level::available() {
        for (x, y) in x.iter().zip(exp(level, &x)) {
            let exact = f64::from(*x).exp();
            if exact > f64::from(f32::MAX) {
                assert_eq!(y, f32::INFINITY, "{} e^{x}", level.name());
                continue;
            }
            let unit = (exact * f64::from(f32::EPSILON)).max(f64::from(f32::from_bits(1)));
            let error = (f64::from(y) - exact).abs() / unit;
            assert!(error < 2.0, "{} e^{x}: {y}, {error} units", level.name());
        }
    }
}

#[test]
fn exponentials_of_no_numbers() {
    let x = [
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN,
        f32::MAX,
        -0.0,
    ];
    for level in Level::available() {
        let y = exp(level, &x);
        assert_eq!(y[..2], [f32::INFINITY, 0.0]);
        assert!(y[2].is_nan());
        assert_eq!(y[3..], [0.0, f32::INFINITY, 1.0]);
    }
}

/// In the scores' place or not, in one task or many, with rows that are shorter than a vector.
#[test]
fn weights_are_those_of_the_rows_that_are_seen() {
    let mut random = StdRng::seed_from_u64(3);
    for (matrices, rows, keys, window) in [
        (1, 1, 1, None),
        (3, 5, 5, None),
        (2, 7, 40, Some(9)),
        (5, 33, 70, Some(1)),
        (4, 64, 130, None),
        (2, 3, 7, Some(100)),
    ] {
        let len = matrices * rows * keys;
        let scores: Vec<f32> = (0..len).map(|_| random.random_range(-9.0..9.0)).collect();
        for level in Level::available() {
            let mut apart = vec![f32::NAN; len];
            let mut within = scores.clone();
            for (from, to) in [
                (Shared::reading(&scores), Shared::new(&mut apart)),
                (Shared::new(&mut within), Shared::new(&mut within)),
            ] {
                let scores = Scores {
                    from,
                    to,
                    rows,
                    keys,
                    window,
                };
                // SAFETY: there are as many of both.
                unsafe { scores.weigh(level, matrices) };
            }
            assert!(apart == within);
            let rows_of = scores.chunks_exact(keys).zip(apart.chunks_exact(keys));
            for (at, (scores, weights)) in rows_of.enumerate() {
                let own = keys - rows + at % rows;
                let seen = |key: usize| key <= own && window.is_none_or(|w| own - key < w);
                let scores_seen = (0..keys).filter(|key| seen(*key)).map(|key| scores[key]);
                let largest = scores_seen.fold(f32::NEG_INFINITY, f32::max);
                for key in 0..keys {
                    let expected = match seen(key) {
                        true => f64::from(scores[key] - largest).exp(),
                        false => 0.0,
                    };
                    let error = (f64::from(weights[key]) - expected).abs();
                    assert!(error <= 3e-7 * expected, "row {at}, key {key}");
                }
            }
        }
    }
}
