use burn_eqat::InferenceConfig;

/// How packed models are run, shared by the commands that run them.
#[derive(clap::Args, Debug)]
pub(super) struct InferenceArg {
    /// Quantize activations to 8 bits as they come, beside packed weights: faster on CPUs, and not
    /// quite exact
    #[arg(long)]
    pub(super) fast_activations: bool,
}

impl InferenceArg {
    /// Runs `body` as the arguments say.
    pub(super) fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        InferenceConfig::new()
            .with_fast_activations(self.fast_activations)
            .run(body)
    }
}
