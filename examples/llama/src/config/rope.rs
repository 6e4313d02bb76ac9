//! Rotary settings.

use serde::{Deserialize, Serialize};

/// Base and rescaling of the rotary frequencies: `rope_scaling`, or `rope_parameters` in newer files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RopeParameters {
    /// Base of the frequencies, in newer files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Kind of rescaling: `default` (none), `linear`, `dynamic` or `llama3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_type: Option<String>,
    /// The name of `rope_type` in older files.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub old_type: Option<String>,
    /// The factor by which the number of positions grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// `llama3`: wavelengths above this part of the old positions are stretched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_freq_factor: Option<f64>,
    /// `llama3`: wavelengths below this part of the old positions do not change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_freq_factor: Option<f64>,
    /// `llama3`: positions that the model was first trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_max_position_embeddings: Option<f64>,
}

/// A rescaling of the rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rescaling {
    /// None. (`dynamic` only rescales beyond the model's positions, which are not supported here.)
    None,
    /// All of them, by a factor.
    Linear { factor: f64 },
    /// Low frequencies by a factor, high ones not at all, and those between partly.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        positions: f64,
    },
}

/// A missing or wrong field: its name, its value, and the expected value.
pub(super) type Wrong = (&'static str, String, &'static str);

impl RopeParameters {
    /// The rescaling asked for.
    pub(super) fn rescaling(&self) -> Result<Rescaling, Wrong> {
        let number = |field, value: Option<f64>| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err((field, value.to_string(), "a positive number")),
            None => Err((field, "missing".to_string(), "a positive number")),
        };
        let factor = || number("rope_scaling.factor", self.factor);
        let kind = self.rope_type.as_deref().or(self.old_type.as_deref());
        match kind.unwrap_or("default") {
            "default" | "dynamic" => Ok(Rescaling::None),
            "linear" => Ok(Rescaling::Linear { factor: factor()? }),
            "llama3" => {
                let low = number("rope_scaling.low_freq_factor", self.low_freq_factor)?;
                let high = number("rope_scaling.high_freq_factor", self.high_freq_factor)?;
                if high <= low {
                    let expected = "more than low_freq_factor";
                    return Err(("rope_scaling.high_freq_factor", high.to_string(), expected));
                }
                Ok(Rescaling::Llama3 {
                    factor: factor()?,
                    low,
                    high,
                    positions: number(
                        "rope_scaling.original_max_position_embeddings",
                        self.original_max_position_embeddings,
                    )?,
                })
            }
            other => Err((
                "rope_scaling.rope_type",
                other.to_string(),
                "default, linear, dynamic or llama3",
            )),
        }
    }
}

impl Rescaling {
    /// A frequency, rescaled.
    pub(crate) fn apply(self, frequency: f32) -> f32 {
        match self {
            Rescaling::None => frequency,
            Rescaling::Linear { factor } => frequency / factor as f32,
            Rescaling::Llama3 {
                factor,
                low,
                high,
                positions,
            } => {
                // How often the wave goes round in the old positions.
                let turns = positions as f32 * frequency / (2.0 * std::f32::consts::PI);
                let stretched = frequency / factor as f32;
                let share = (turns - low as f32) / (high - low) as f32;
                let share = share.clamp(0.0, 1.0);
                (1.0 - share) * stretched + share * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_frequencies_stay_and_low_ones_stretch() {
        let scaling = Rescaling::Llama3 {
            factor: 8.0,
            low: 1.0,
            high: 4.0,
            positions: 8192.0,
        };
        assert_eq!(scaling.apply(1.0), 1.0);
        assert_eq!(scaling.apply(1e-5), 1e-5 / 8.0);
        let between = scaling.apply(2e-3);
        assert!(between < 2e-3 && between > 2e-3 / 8.0);
    }

    #[test]
    fn what_is_missing_is_named() {
        let parameters = RopeParameters {
            rope_type: Some("llama3".into()),
            low_freq_factor: Some(1.0),
            ..Default::default()
        };
        let (field, value, _) = parameters.rescaling().unwrap_err();
        assert_eq!(
            (field, value.as_str()),
            ("rope_scaling.high_freq_factor", "missing")
        );
        let parameters = RopeParameters {
            old_type: Some("yarn".into()),
            ..Default::default()
        };
        assert!(parameters.rescaling().is_err());
    }
}
