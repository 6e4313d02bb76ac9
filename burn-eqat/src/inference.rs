use burn::config::Config;
use burn_eqat_kernels::Activations;
use std::cell::Cell;

/// Configuration of how packed models are [run](InferenceConfig::run).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::{InferenceConfig, QuantLinear, QuantLinearConfig};
///
/// let layer: QuantLinear = QuantLinearConfig::new(64, 16).init(&Device::flex());
/// let x = Tensor::<2>::ones([1, 64], &Device::flex());
/// let config = InferenceConfig::new().with_fast_activations(true);
/// let y = config.run(|| layer.forward(x));
/// ```
#[derive(Config, Debug, Copy)]
pub struct InferenceConfig {
    /// Whether packed layers may quantize their activations to 8 bits as they come, for speed, where
    /// nothing is differentiated: [`Activations::Int8`] says where that is done and what it costs.
    #[config(default = false)]
    pub fast_activations: bool,
    /// Whether a packed layer may keep a copy of its weight that is faster to decode from, one position or a
    /// few at a time: [`PackedWeight::keep_copy`](burn_eqat_kernels::PackedWeight::keep_copy) says where there is one. It is made when the
    /// layer first runs, and takes as much memory again as the packed weight.
    #[config(default = false)]
    pub repack_weights: bool,
}

thread_local! {
    static CURRENT: Cell<Option<InferenceConfig>> = const { Cell::new(None) };
}

impl InferenceConfig {
    /// Runs a model this way: whatever `body` does on this thread.
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<InferenceConfig>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(Some(*self)));
        let activations = if self.fast_activations {
            Activations::Int8
        } else {
            Activations::Exact
        };
        activations.scope(body)
    }

    /// What the innermost [`run`](Self::run) around the caller says, or the default.
    pub(crate) fn current() -> Self {
        CURRENT.get().unwrap_or_else(Self::new)
    }
}
