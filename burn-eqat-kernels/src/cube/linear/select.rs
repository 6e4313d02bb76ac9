//! Selects the strategy of a matmul: the first one that the device supports, or, with the `autotune` feature, the one
//! that is measured to be the fastest on the device. All such decisions are made here.

use super::matmul::{Forward, InputGradient, Matmul, ScaleGradient};
use crate::cube::plan::strategy::strategies;

/// Runs the first strategy that the device supports.
///
/// # Panics
///
/// When there is none: the device's shared memory cannot hold a tile of 16 KiB, and Burn's own matmul failed.
fn first_available<M: Matmul>(matmul: M) -> M::Output {
    let weight = matmul.weight();
    let mut unavailable = Vec::new();
    for strategy in strategies(M::KIND, weight.problem.m, &weight.limits) {
        match matmul.clone().run(strategy) {
            Ok(made) => return made,
            Err(why) => unavailable.push(why.to_string()),
        }
    }
    panic!(
        "the device has no strategy for the {:?} matmul: {}",
        M::KIND,
        unavailable.join("; ")
    )
}

/// Uses the fastest strategy if tuning is compiled in and worth it, else the first one that the device
/// supports.
macro_rules! select {
    ($(#[$doc:meta])* $name:ident, $matmul:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(matmul: $matmul) -> <$matmul as Matmul>::Output {
            // On the CPU runtime a kernel takes longer to compile than its choice would save.
            #[cfg(feature = "autotune")]
            if !matmul.weight().limits.cpu {
                return super::tune::$name(matmul);
            }
            first_available(matmul)
        }
    };
}

select!(
    /// The matmul of the layer itself.
    forward,
    Forward
);
select!(
    /// The gradient by the input.
    input,
    InputGradient
);
select!(
    /// The gradients by step sizes and zero points.
    scale,
    ScaleGradient
);
