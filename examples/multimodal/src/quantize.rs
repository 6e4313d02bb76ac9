//! Takes a multimodal model to few bits by training.

use crate::data::{Loader, loader};
use crate::error::Error;
use crate::model::{Example, MediaBatch, Multimodal};
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use burn_eqat::{EfficientQatConfig, Observer, PhaseLoaders, Scheme, SchemeOverride, Weights};

/// What is quantized, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeSettings {
    /// Scheme of the decoder's weights.
    pub scheme: Scheme,
    /// Scheme of the tower's weights; `None` leaves it in full precision.
    pub tower: Option<Scheme>,
    /// Other schemes for the weights whose paths match.
    pub overrides: Vec<SchemeOverride>,
    /// Passes over its conversations in Block-AP.
    pub epochs: usize,
    /// Passes over its conversations in E2E-QP.
    pub e2e_epochs: usize,
}

impl QuantizeSettings {
    /// The decoder alone, in one scheme.
    pub fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            tower: None,
            overrides: Vec::new(),
            epochs: 2,
            e2e_epochs: 1,
        }
    }
}

/// Loaders of conversations for both phases: `[training, validation]` of each, and the conversations of a step of each.
pub fn loaders<D: Dataset<Example> + 'static>(
    [train, valid]: [D; 2],
    [e2e_train, e2e_valid]: [D; 2],
    [batch, e2e_batch]: [usize; 2],
    device: &Device,
) -> PhaseLoaders<MediaBatch> {
    let pair = |train, valid, batch| -> (Loader, Loader) {
        (loader(train, batch, device), loader(valid, batch, device))
    };
    PhaseLoaders {
        block_ap: pair(train, valid, batch),
        e2e_qp: pair(e2e_train, e2e_valid, e2e_batch),
    }
}

/// Block-AP on whole conversations, whose images or sounds are positions of the hidden state, and then E2E-QP with the loss on
/// answers only. The observer gets the model after each stage.
///
/// # Errors
///
/// When training fails, or the observer does.
pub fn quantize<O: Observer<Multimodal> + ?Sized>(
    model: Multimodal,
    settings: &QuantizeSettings,
    data: PhaseLoaders<MediaBatch>,
    observer: &mut O,
) -> Result<Multimodal, Error> {
    let model = model.with_tower_blocks(settings.tower.is_some());
    let mut overrides = Vec::new();
    if let Some(scheme) = settings.tower {
        overrides.push(SchemeOverride::new("^(vision|audio)_tower\\.", scheme)?);
    }
    overrides.extend(settings.overrides.iter().cloned());
    let recipe = EfficientQatConfig::new(settings.scheme, Weights::in_blocks(&model))
        .with_overrides(overrides)
        .with_epochs(settings.epochs)
        .with_e2e_epochs(settings.e2e_epochs)
        .init();
    Ok(recipe.run(model, data, observer)?)
}
