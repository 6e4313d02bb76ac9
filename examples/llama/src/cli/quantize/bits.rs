//! Bits of each weight by a budget.

use crate::cli::training_progress::TrainingProgress;
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::Llama;
use crate::quantize::QuantizeSettings;
use burn::tensor::Device;
use burn_eqat::lm::Calibration;
use burn_eqat::train::BitsBudgetConfig;
use burn_eqat::{RunDir, SchemeOverride};
use serde_json::json;
use std::collections::BTreeMap;

/// What the run directory calls the schemes that were found.
const BITS: &str = "bits";

/// Which weights have other schemes than that of the settings, by a budget of bits per weight. A run that goes on has kept it.
pub(super) fn overrides(
    budget: f64,
    settings: &QuantizeSettings,
    loaded: &LoadedLlama,
    data: &Calibration,
    device: &Device,
    run: Option<&RunDir>,
) -> Result<Vec<SchemeOverride>, Error> {
    if let Some((run, kept)) = run.and_then(|run| Some((run, run.note(BITS)?))) {
        let kept = serde_json::from_value(kept);
        return kept.map_err(|error| Error::input(run.path(), format!("{BITS}: {error}")));
    }
    let model = loaded.model.clone().with_compute_type(settings.dtype);
    let (weights, windows) = (
        Llama::quantized_weights(),
        data.train.loader(1, None, device),
    );
    let mut progress = TrainingProgress::new(false);
    let config = BitsBudgetConfig::new(budget);
    let schemes = config.schemes(&model, &weights, settings.scheme, windows, &mut |event| {
        progress.event(&event)
    })?;
    progress.clear();
    let found = schemes.overrides().to_vec();
    if let Some(run) = run {
        run.set_note(BITS, json!(found))?;
    }
    Ok(found)
}

/// How many weights have which scheme, for those that differ.
pub(super) fn summary(overrides: &[SchemeOverride]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for one in overrides {
        *counts.entry(one.scheme().to_string()).or_default() += 1;
    }
    let counts = counts.iter();
    let counts: Vec<String> = counts
        .map(|(scheme, count)| format!("{count} in {scheme}"))
        .collect();
    match counts.is_empty() {
        true => "none in more bits".to_string(),
        false => counts.join(", "),
    }
}
