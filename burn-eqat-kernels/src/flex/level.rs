//! The SIMD level of the bodies: the best of the CPU, or the one that an environment variable names.

use macerator::{Arch, WithSimd};
use std::sync::OnceLock;

/// A level of SIMD instructions that this CPU has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level(Arch);

/// Lanes of the widest vector.
pub(super) const MAX_LANES: usize = 16;

/// Names a level, for tests and measurements; see [`Level::current`].
const VARIABLE: &str = "BURN_EQAT_SIMD";

impl Level {
    /// The best level, unless the environment variable `BURN_EQAT_SIMD` names another that the CPU
    /// has (`scalar`, `sse4`, `avx2`, `avx512`, `neon`). The variable is read once in a process.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let Ok(name) = std::env::var(VARIABLE) else {
                return Level::best();
            };
            match Level::available().find(|level| level.name() == name) {
                Some(level) => level,
                None => {
                    let names: Vec<_> = Level::available().map(|level| level.name()).collect();
                    let names = names.join(", ");
                    eprintln!(
                        "{VARIABLE}={name}: not a level of this CPU, expected one of {names}"
                    );
                    Level::best()
                }
            }
        })
    }

    fn best() -> Self {
        Level(Arch::detect())
    }

    /// Every level that this CPU has, the portable one first.
    pub fn available() -> impl Iterator<Item = Level> {
        // The levels of a CPU family are in order: each includes those before it.
        let best = Arch::detect();
        #[cfg(target_arch = "x86_64")]
        let all = [Arch::Scalar, Arch::V2, Arch::V3, Arch::V4];
        #[cfg(not(target_arch = "x86_64"))]
        let all = [Arch::Scalar, best];
        let first = all.iter().take_while(|level| **level as u8 != best as u8);
        let below = first.count();
        all.into_iter().take(below + 1).map(Level)
    }

    /// Its name in `BURN_EQAT_SIMD`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Arch::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Arch::V2 => "sse4",
            #[cfg(target_arch = "x86_64")]
            Arch::V3 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Arch::V4 => "avx512",
            #[cfg(target_arch = "aarch64")]
            _ => "neon",
            #[cfg(not(target_arch = "aarch64"))]
            _ => "simd",
        }
    }

    /// Runs a body compiled for this level.
    pub fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        // SAFETY: a level is only made where the CPU has it.
        unsafe { self.0.dispatch(op) }
    }
}
