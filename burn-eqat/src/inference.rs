use burn::config::Config;
use burn_eqat_kernels::Activations;
use std::cell::Cell;

/// Configuration to [run](InferenceConfig::run) packed models.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::{InferenceConfig, QuantLinear, QuantLinearConfig};
///
/// let layer: QuantLinear = QuantLinearConfig::new(64, 16).init(&Device::flex());
/// let x = Tensor::<2>::ones([1, 64], &Device::flex());
/// let config = InferenceConfig::new().with_fast_activations(true);
/// let y = config.run(|| layer.forward(x));
/// assert_eq!(y.dims(), [1, 16]);
/// ```
#[derive(Config, Debug, Copy)]
pub struct InferenceConfig {
    /// Whether packed layers may quantize their activations to 8 bits when they run without autodiff. This is faster;
    /// see [`Activations::Int8`] for its conditions and its error.
    #[config(default = false)]
    pub fast_activations: bool,
    /// Whether a packed layer may keep a copy of its weight for faster decoding of one or a few positions at a time; see
    /// [`PackedWeight::keep_copy`](burn_eqat_kernels::PackedWeight::keep_copy) for its conditions. The copy is made when
    /// the layer first runs, and takes the memory of the packed weight again.
    #[config(default = false)]
    pub repack_weights: bool,
}

thread_local! {
    static CURRENT: Cell<Option<InferenceConfig>> = const { Cell::new(None) };
}

impl InferenceConfig {
    /// Runs `body` with this configuration, on this thread.
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

    /// The configuration of the innermost [`run`](Self::run) around the caller, or the default.
    pub(crate) fn current() -> Self {
        CURRENT.get().unwrap_or_else(Self::new)
    }
}
