//! The error of an unavailable strategy.

use crate::cube::plan::strategy::Strategy;

/// A device cannot run a matmul with a strategy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    /// The device has too little shared memory or no matrix units, or the strategy is not for this matmul.
    #[error("the device does not support {0:?}")]
    Strategy(Strategy),
    /// Burn's own matmul fails.
    #[error("Burn's matmul failed: {0}")]
    Burn(String),
}
