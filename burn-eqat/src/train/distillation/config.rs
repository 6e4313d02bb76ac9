use crate::train::TrainError;
use burn::config::Config;

/// How much a model learns from its original, and how sharply.
#[derive(Config, Debug, Copy, PartialEq)]
pub struct DistillationConfig {
    /// What both models' logits are divided by, before their predictions are compared. More than 1 gives more weight to what is
    /// unlikely. The divergence is multiplied by its square, so that gradients stay as large.
    #[config(default = 1.0)]
    pub temperature: f64,
    /// The weight of the divergence from the original's predictions, from 0 to 1. The rest is the weight of the model's own loss.
    #[config(default = 1.0)]
    pub weight: f64,
}

impl DistillationConfig {
    /// Fails for numbers that make no sense.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let Self {
            temperature,
            weight,
        } = self;
        if !(temperature.is_finite() && *temperature > 0.0) {
            let message =
                format!("temperature of distillation is {temperature}, expected more than 0");
            return Err(TrainError::Setting(message));
        }
        if !(0.0..=1.0).contains(weight) {
            let message = format!("weight of distillation is {weight}, expected 0 to 1");
            return Err(TrainError::Setting(message));
        }
        Ok(())
    }
}
