use super::E2eQp;
use crate::Bits;
use crate::train::{DeviceList, LearningRates, Rate};
use burn::config::Config;

/// Configuration of E2E-QP, initialised with the [init function](E2eQpConfig::init). The defaults are the paper's,
/// except for the learning rate.
///
/// ```
/// use burn_eqat::train::{E2eQpConfig, Rate};
///
/// let config = E2eQpConfig::new()
///     .with_learning_rate(Some(Rate::Absolute(2e-5)))
///     .with_epochs(2)
///     .with_grad_accumulation(4);
/// let e2e_qp = config.init();
/// assert_eq!(e2e_qp.config().epochs, 2);
/// ```
#[derive(Config, Debug)]
pub struct E2eQpConfig {
    /// Highest learning rate of the step sizes; [in steps](Rate::InSteps), of the mean of all weights. If not set, it depends on the
    /// size of the model ([`LearningRates::for_model`]).
    #[config(default = "None")]
    pub learning_rate: Option<Rate>,
    /// Part of the steps in which the rate rises to its highest.
    #[config(default = 0.03)]
    pub warm_up: f64,
    /// The rate at the end of the cosine, as a part of the highest one.
    #[config(default = 0.0)]
    pub final_rate: f64,
    /// Largest norm of all gradients of a step together.
    #[config(default = 0.3)]
    pub max_grad_norm: f64,
    /// Batches whose gradients are averaged for a step; on several devices, as many on each.
    #[config(default = 1)]
    pub grad_accumulation: usize,
    /// Recompute activations block by block in the backward pass, for
    /// [`run_by_blocks`](super::E2eQp::run_by_blocks): those of one block are in memory at a time, at the cost of another
    /// forward pass.
    #[config(default = false)]
    pub recompute: bool,
    /// Passes over the training data.
    #[config(default = 1)]
    pub epochs: usize,
    /// Stop after that many epochs without a better validation loss, and restore the best step sizes. Needs
    /// validation data.
    #[config(default = "None")]
    pub early_stopping: Option<usize>,
    /// Steps in a row that may be left out because a loss or a gradient is not finite. One more ends the phase with an error.
    #[config(default = 3)]
    pub max_skipped: usize,
    /// Round step sizes to 16-bit floats at the end, which halves their size in files. Otherwise files store them in 32
    /// bits.
    #[config(default = true)]
    pub round_scales: bool,
    /// Optimizer steps after which a run directory keeps the state again, if there is one.
    #[config(default = 10)]
    pub save_every: usize,
}

impl E2eQpConfig {
    /// The phase.
    pub fn init(&self) -> E2eQp {
        E2eQp {
            config: self.clone(),
            run_dir: None,
            devices: DeviceList::default(),
        }
    }

    /// The learning rates for a model of that many parameters whose weights have these bits.
    pub fn rates(&self, params: usize, bits: Bits) -> LearningRates {
        let preset = LearningRates::for_model(params, bits);
        LearningRates {
            e2e: self.learning_rate.unwrap_or(preset.e2e),
            ..preset
        }
    }
}
