use super::E2eAp;
use crate::Bits;
use crate::train::{CacheDType, E2eQpConfig, LearningRates, Rate};
use burn::config::Config;

/// Configuration of E2E-AP, initialised with the [init function](E2eApConfig::init).
#[derive(Config, Debug)]
pub struct E2eApConfig {
    /// Highest learning rate of weights and norms. If not set, it depends on the size of the model and the bits
    /// ([`LearningRates::for_model`]).
    #[config(default = "None")]
    pub weight_learning_rate: Option<Rate>,
    /// Highest learning rate of step sizes and zero points. If not set, it is chosen in the same way.
    #[config(default = "None")]
    pub quant_learning_rate: Option<Rate>,
    /// Part of the steps in which the rates rise to their highest.
    #[config(default = 0.03)]
    pub warm_up: f64,
    /// The rates at the end of the cosine, as a part of the highest ones.
    #[config(default = 0.0)]
    pub final_rate: f64,
    /// Largest norm of all gradients of a step together.
    #[config(default = 1.0)]
    pub max_grad_norm: f64,
    /// Batches whose gradients are averaged for a step.
    #[config(default = 1)]
    pub grad_accumulation: usize,
    /// Recompute activations block by block in the backward pass: those of one block are in memory at a time, at the cost of another
    /// forward pass.
    #[config(default = false)]
    pub recompute: bool,
    /// Passes over the training data.
    #[config(default = 1)]
    pub epochs: usize,
    /// Steps in a row that may be left out because a loss or a gradient is not finite. One more ends the phase with an error.
    #[config(default = 3)]
    pub max_skipped: usize,
    /// Optimizer steps after which a run directory keeps the state again, where blocks are in files.
    #[config(default = 20)]
    pub save_every: usize,
    /// Type of AdamW's moments in files, where blocks are in files. In bf16 they are rounded at random, so that slow means move; the same
    /// run rounds alike. In memory they are in f32.
    #[config(default = "CacheDType::Bf16")]
    pub moments: CacheDType,
    /// Round step sizes to 16-bit floats at the end, which halves their size in files. Otherwise files store them in 32
    /// bits.
    #[config(default = true)]
    pub round_scales: bool,
}

impl E2eApConfig {
    /// The phase.
    pub fn init(&self) -> E2eAp {
        E2eAp {
            config: self.clone(),
            run_dir: None,
        }
    }

    /// The learning rates for a model of that many parameters whose weights have these bits.
    pub fn rates(&self, params: usize, bits: Bits) -> LearningRates {
        let preset = LearningRates::for_model(params, bits);
        LearningRates {
            e2e_ap_quantizer: self.quant_learning_rate.unwrap_or(preset.e2e_ap_quantizer),
            e2e_ap_weights: self.weight_learning_rate.unwrap_or(preset.e2e_ap_weights),
            ..preset
        }
    }

    /// What the loop of E2E-QP, which this phase runs in, is to do.
    pub(super) fn as_e2e_qp(&self) -> E2eQpConfig {
        E2eQpConfig::new()
            .with_warm_up(self.warm_up)
            .with_final_rate(self.final_rate)
            .with_max_grad_norm(self.max_grad_norm)
            .with_grad_accumulation(self.grad_accumulation)
            .with_epochs(self.epochs)
            .with_max_skipped(self.max_skipped)
            .with_save_every(self.save_every)
    }
}
