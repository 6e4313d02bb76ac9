//! Settings as text.

use super::preset::ChosenPreset;
use crate::LlamaConfig;
use crate::quantize::QuantizeSettings;
use burn_eqat::StartValues;
use burn_eqat::lm::Calibration;
use burn_eqat::train::ReconstructionLoss;
use serde_json::Value;
use std::path::Path;

/// The sizes of a run in a line.
pub(in crate::cli) fn sizes(settings: &QuantizeSettings) -> String {
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let mut parts = vec![format!("windows of {} tokens", settings.seq_len)];
    if let Some(phase) = settings.block_ap {
        let (size, batch) = (phase.train_size, phase.batch_size);
        let epochs = count(phase.epochs, "epoch");
        let ahead = match phase.lookahead {
            0 => String::new(),
            blocks => format!(", looking ahead {}", count(blocks, "block")),
        };
        let loss = match phase.loss {
            ReconstructionLoss::Squared | ReconstructionLoss::Auto => "",
            ReconstructionLoss::Relative => ", relative error",
        };
        let start = match phase.start {
            StartValues::MinMax => "",
            StartValues::Searched => ", start values searched",
        };
        let rates = match phase.probe_rates {
            true => ", rates found by a probe",
            false => "",
        };
        parts.push(format!(
            "Block-AP {size} in batches of {batch}, {epochs}{ahead}{loss}{start}{rates}"
        ));
    }
    if let Some(phase) = settings.e2e_qp {
        let (size, batch) = (phase.e2e_size, phase.e2e_batch);
        let steps = match phase.grad_accum {
            1 => String::new(),
            batches => format!("{batches} a step, "),
        };
        let taught = if phase.distillation.is_some() {
            ", learning from the original"
        } else {
            ""
        };
        let e2e_ap = phase.e2e_ap.map_or(0, |phase| phase.epochs);
        for (name, epochs) in [("E2E-AP", e2e_ap), ("E2E-QP", phase.e2e_epochs)] {
            if epochs > 0 {
                let epochs = count(epochs, "epoch");
                parts.push(format!(
                    "{name} {size} in batches of {batch}, {steps}{epochs}{taught}"
                ));
            }
        }
    }
    if settings.val_size > 0 {
        parts.push(format!("validation {}", settings.val_size));
    }
    parts.join("; ")
}

/// What a report says of the model and the settings: names and values.
pub(super) fn facts(
    dir: &Path,
    config: &LlamaConfig,
    chosen: &ChosenPreset,
    settings: &QuantizeSettings,
    data: &Calibration,
) -> Vec<(String, String)> {
    let eval = format!(
        "{} windows of {} tokens",
        data.eval.len(),
        data.eval.seq_len()
    );
    let mut facts: Vec<(String, String)> = [
        ("model", dir.display().to_string()),
        ("model_type", config.model_type.clone()),
        ("parameters", chosen.params.to_string()),
        ("blocks", config.num_hidden_layers.to_string()),
        ("hidden_size", config.hidden_size.to_string()),
        ("vocab_size", config.vocab_size.to_string()),
        ("preset", chosen.preset.to_string()),
        ("perplexity on", eval),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    let settings = serde_json::to_value(settings).unwrap_or_default();
    flatten("", &settings, &mut facts);
    facts
}

/// The values of a JSON object by their names, `outer.inner` where they are nested.
fn flatten(prefix: &str, value: &Value, into: &mut Vec<(String, String)>) {
    let text = match value {
        Value::Null => return,
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = match prefix {
                    "" => name.clone(),
                    outer => format!("{outer}.{name}"),
                };
                flatten(&name, value, into);
            }
            return;
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    into.push((prefix.to_string(), text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_settings_have_names() {
        let value = serde_json::json!({"a": 1, "b": {"c": "x", "d": null}, "e": [2]});
        let mut facts = Vec::new();
        flatten("", &value, &mut facts);
        let expected = [("a", "1"), ("b.c", "x"), ("e", "[2]")];
        assert_eq!(facts, expected.map(|(n, v)| (n.to_string(), v.to_string())));
    }
}
