use burn_eqat::InferenceConfig;

/// How packed models are run, shared by the commands that run them.
#[derive(clap::Args, serde::Serialize, Clone, Copy, Debug)]
pub(super) struct InferenceArg {
    /// Quantize activations to 8 bits as they come, beside packed weights: faster on CPUs, and not
    /// quite exact
    #[arg(long)]
    pub(super) fast_activations: bool,
    /// Keep a second copy of packed weights in memory that is faster to decode from: 2 and 3 bits, on x86-64
    #[arg(long)]
    pub(super) repack: bool,
}

impl InferenceArg {
    /// Runs `body` as the arguments say.
    pub(super) fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        InferenceConfig::new()
            .with_fast_activations(self.fast_activations)
            .with_repack_weights(self.repack)
            .run(body)
    }
}
