use crate::error::Error;
use crate::load::LoadedLlama;
use burn_eqat::{InferenceConfig, Scheme};

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
    /// Round the output layer for this run, and the embedding if they are one: faster decoding in less memory, w8g64 at
    /// almost no loss. The files stay as they are
    #[arg(long, value_name = "SCHEME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    head_scheme: Option<Scheme>,
}

impl InferenceArg {
    /// The model as these settings want it.
    ///
    /// # Errors
    ///
    /// When the groups of `--head-scheme` do not divide the model's hidden size.
    pub(super) fn prepare(&self, mut loaded: LoadedLlama) -> Result<LoadedLlama, Error> {
        if let Some(scheme) = &self.head_scheme {
            let packed = loaded.model.with_packed_head(scheme);
            loaded.model =
                packed.map_err(|error| Error::Setting(format!("--head-scheme: {error}")))?;
        }
        Ok(loaded)
    }

    /// The model as these settings want it, for one token after another: layers that read the same input run as one. Many
    /// tokens at a time take no less time so.
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare).
    pub(super) fn prepare_to_write(&self, loaded: LoadedLlama) -> Result<LoadedLlama, Error> {
        let mut loaded = self.prepare(loaded)?;
        loaded.model = loaded.model.with_merged_projections();
        Ok(loaded)
    }

    /// Runs `body` with these settings.
    pub(super) fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        InferenceConfig::new()
            .with_fast_activations(self.fast_activations)
            .with_repack_weights(self.repack)
            .run(body)
    }
}
