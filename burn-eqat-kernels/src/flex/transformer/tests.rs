//! Tests every pass at every level of this CPU: exponentials against f64, the others against the portable level,
//! which the suite in `tests/` compares with Burn's ops.

use super::super::level::Level;
use super::super::matrix::Products;
use super::super::parallel::Shared;
use super::super::tests::{floats, tensor, values};
use super::attention::{CausalAttention, Gradients};
use super::elementwise::{self, Exp, Swiglu, SwigluBackward};
use super::heads::{self, Heads};
use super::norm::Norm;
use super::rotary::Rotation;
use burn_flex::FlexTensor;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn exp(level: Level, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let (from, to) = (Shared::reading(x), Shared::new(&mut y));
    // SAFETY: there are as many of both.
    unsafe { elementwise::run(level, Exp, [from], [to], x.len()) };
    y
}

#[test]
fn exponentials_are_off_by_two_roundings_at_most() {
    // Closely around zero, and all magnitudes, with results that are subnormal or infinite among them.
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
fn exponentials_of_what_is_no_number() {
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

fn random(random: &mut StdRng, len: usize) -> Vec<f32> {
    floats(random, len, -3.0, 3.0)
}

/// Checks that every level has the results of the first one.
fn agree(what: &str, run: impl Fn(Level) -> Vec<Vec<f32>>) {
    let mut levels = Level::available();
    let expected = run(levels.next().unwrap());
    assert!(expected.iter().flatten().all(|value| value.is_finite()));
    for level in levels {
        for (actual, expected) in run(level).iter().zip(&expected) {
            let size = expected
                .iter()
                .fold(1f32, |size, value| size.max(value.abs()));
            let mut errors = actual.iter().zip(expected).map(|(a, e)| (a - e).abs());
            assert!(
                errors.all(|error| error < 2e-6 * size),
                "{what}, {}",
                level.name()
            );
        }
    }
}

#[test]
fn levels_agree_on_elementwise_ops() {
    for len in [1, 7, 64, 100, 40_001] {
        let mut source = StdRng::seed_from_u64(len as u64);
        let [gate, up, grad] = [(); 3].map(|_| random(&mut source, len));
        agree("SwiGLU", |level| {
            let [mut y, mut by_gate, mut by_up] = [(); 3].map(|_| vec![f32::NAN; len]);
            let from = [&gate, &up, &grad].map(|x| Shared::reading(x));
            let to = [&mut y, &mut by_gate, &mut by_up].map(|y| Shared::new(y));
            // SAFETY: there are as many of all.
            unsafe {
                elementwise::run(level, Swiglu, [from[0], from[1]], [to[0]], len);
                elementwise::run(level, SwigluBackward, from, [to[1], to[2]], len);
            }
            vec![y, by_gate, by_up]
        });
    }
}

#[test]
fn levels_agree_on_norms() {
    for (rows, width) in [(1, 1), (3, 5), (7, 64), (300, 90)] {
        let mut source = StdRng::seed_from_u64(width as u64);
        let [x, grad] = [(); 2].map(|_| random(&mut source, rows * width));
        let gamma = random(&mut source, width);
        agree("a norm", |level| {
            let norm = Norm {
                x: &x,
                gamma: &gamma,
                epsilon: 1e-3,
            };
            let [mut y, mut dx] = [(); 2].map(|_| vec![f32::NAN; x.len()]);
            let mut dgamma = vec![0.0; width];
            norm.forward(level, &mut y);
            norm.backward(level, &grad, &mut dx, &mut dgamma);
            vec![y, dx, dgamma]
        });
    }
}

fn of_shape(source: &mut StdRng, shape: [usize; 4]) -> FlexTensor {
    tensor(&random(source, shape.iter().product()), shape)
}

#[test]
fn levels_agree_on_rotations() {
    for shape in [[1, 1, 1, 2], [2, 3, 5, 6], [2, 2, 130, 64]] {
        let mut source = StdRng::seed_from_u64(shape[2] as u64);
        let x = of_shape(&mut source, shape);
        let [cos, sin] = [(); 2].map(|_| random(&mut source, shape[2] * shape[3] / 2));
        for back in [false, true] {
            agree("a rotation", |level| {
                let mut y = heads::zeros(shape);
                let rotation = Rotation {
                    cos: &cos,
                    sin: &sin,
                    back,
                };
                rotation.run(level, Heads::reading(&x), Heads::writing(&mut y));
                vec![values(y)]
            });
        }
    }
}

#[test]
fn levels_agree_on_attention() {
    for ([batch, kv_heads, share, queries, keys], [width, v_width], window) in [
        ([1, 1, 1, 1, 1], [4, 4], None),
        ([2, 2, 3, 5, 9], [6, 5], Some(3)),
        ([1, 2, 2, 130, 140], [16, 16], None),
        ([1, 1, 1, 70, 70], [8, 24], Some(20)),
    ] {
        let mut source = StdRng::seed_from_u64(keys as u64);
        let (to_q, to_k) = ([batch, kv_heads * share, queries], [batch, kv_heads, keys]);
        let with = |[a, b, c]: [usize; 3], width| [a, b, c, width];
        let q = of_shape(&mut source, with(to_q, width));
        let k = of_shape(&mut source, with(to_k, width));
        let v = of_shape(&mut source, with(to_k, v_width));
        let grad = of_shape(&mut source, with(to_q, v_width));
        agree("attention", |level| {
            let [q, k, v] = [&q, &k, &v].map(Heads::reading);
            let attention = CausalAttention {
                q,
                k,
                v,
                window,
                products: Products::F32,
            };
            let mut out = heads::zeros(with(to_q, v_width));
            let mut logs = vec![f32::NAN; batch * kv_heads * share * queries];
            let logs_to = Shared::new(&mut logs);
            attention.forward(level, Heads::writing(&mut out), logs_to);
            let mut by_q = heads::zeros(with(to_q, width));
            let mut by_k = heads::zeros(with(to_k, width));
            let mut by_v = heads::zeros(with(to_k, v_width));
            let to = Gradients {
                q: Heads::writing(&mut by_q),
                k: Heads::writing(&mut by_k),
                v: Heads::writing(&mut by_v),
            };
            let grad = Heads::reading(&grad);
            attention.backward(level, Heads::reading(&out), grad, &logs, to);
            vec![values(out), logs, values(by_q), values(by_k), values(by_v)]
        });
    }
}
