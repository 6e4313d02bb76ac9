use burn_eqat::InferenceConfig;

/// Settings to run packed models, shared by several commands.
#[derive(clap::Args, serde::Serialize, Clone, Copy, Debug)]
pub(super) struct InferenceArg {
    /// Quantize activations to 8 bits at run time, with packed weights: faster on CPUs, but not
    /// quite exact
    #[arg(long)]
    pub(super) fast_activations: bool,
    /// Keep a second copy of packed weights in memory for faster decoding: 2 and 3 bits, on x86-64
    #[arg(long)]
    pub(super) repack: bool,
}

impl InferenceArg {
    /// Runs `body` with these settings.
    pub(super) fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        InferenceConfig::new()
            .with_fast_activations(self.fast_activations)
            .with_repack_weights(self.repack)
            .run(body)
    }
}
