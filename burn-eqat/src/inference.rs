use burn::config::Config;
use burn_eqat_kernels::Activations;

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
}

impl InferenceConfig {
    /// Runs a model this way: whatever `body` does on this thread.
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        let activations = match self.fast_activations {
            true => Activations::Int8,
            false => Activations::Exact,
        };
        activations.scope(body)
    }
}
