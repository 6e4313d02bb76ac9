//! Why a strategy cannot be taken.

use crate::cube::plan::strategy::Strategy;

/// Why a device cannot do a matmul by a strategy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    /// It has too little shared memory, or no matrix units; or the strategy is not for this matmul.
    #[error("the device cannot do {0:?}")]
    Strategy(Strategy),
    /// Burn's own matmul fails.
    #[error("Burn's matmul failed: {0}")]
    Burn(String),
}
