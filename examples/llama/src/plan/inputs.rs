use super::activations::Compute;
use crate::LlamaConfig;
use crate::quantize::QuantizeSettings;
use burn::tensor::DType;
use burn_eqat::Schemes;

/// All that a plan depends on.
#[derive(Clone, Debug)]
pub struct PlanInputs {
    /// The shape of the model.
    pub config: LlamaConfig,
    /// The float type of its files.
    pub file: DType,
    /// Bytes of its files; `None` where only the configuration is there.
    pub file_bytes: Option<u64>,
    /// Whether it is packed already, and goes straight to E2E-QP.
    pub packed: bool,
    /// The scheme of each weight.
    pub schemes: Schemes,
    /// Bits per weight of all quantized weights together, where each gets its own by a budget: then the schemes are where they begin.
    pub bits_budget: Option<f64>,
    /// Whether the model writes its calibration text, for which all of it is in memory.
    pub writes_calibration: bool,
    /// How the run was asked to work.
    pub settings: QuantizeSettings,
    /// Windows that perplexity is measured on.
    pub eval: usize,
    /// Whether the device has the fused ops of a transformer: norms, attention and the feed-forward activation. They compute in f32,
    /// also from 16 bits.
    pub fused: bool,
    /// Devices that train at the same time.
    pub devices: usize,
    /// Whether the device has a memory of its own.
    pub separate_device: bool,
    /// Whether the device computes in bf16.
    pub bf16: bool,
    /// Whether finished blocks are kept in a run directory, and in memory no longer.
    pub run_dir: bool,
    /// Whether the model is saved.
    pub output: bool,
}

impl PlanInputs {
    /// The type of activations and products. Weights in training, step sizes, gradients and moments are f32.
    pub(super) fn compute(&self) -> DType {
        self.settings.dtype.dtype()
    }

    /// Whether E2E-QP has one block at a time on the device.
    pub(super) fn offloads(&self) -> bool {
        self.settings.e2e_qp.is_some_and(|phase| phase.offload)
    }

    /// Whether what the original makes of the data is kept: where its blocks would be read for each batch, or the data is gone through
    /// more than once.
    pub(super) fn keeps_lessons(&self) -> bool {
        self.settings.e2e_qp.is_some_and(|phase| {
            let before = phase.e2e_ap.map_or(0, |phase| phase.epochs);
            let taught = phase.distillation.is_some() && !self.packed;
            taught && (phase.offload || before + phase.e2e_epochs > 1)
        })
    }

    /// How many devices' shares of a step are in one memory.
    pub(super) fn copies(&self) -> u64 {
        match self.separate_device {
            true => 1,
            false => self.devices.max(1) as u64,
        }
    }

    /// Whether Block-AP leaves its finished blocks in the run directory.
    pub(super) fn keeps_blocks(&self) -> bool {
        self.run_dir && !self.packed
    }

    /// Whether E2E-QP has its blocks in the run directory: those of Block-AP, or copies of a model that was packed before.
    pub(super) fn has_stored_blocks(&self) -> bool {
        self.keeps_blocks() || (self.packed && self.offloads())
    }

    /// How a step on that many windows computes.
    pub(super) fn on(&self, windows: usize) -> Compute {
        Compute {
            float: self.compute().size() as u64,
            fused: self.fused,
            windows,
            seq_len: self.settings.seq_len,
        }
    }

    /// Bytes of a value of the embedding and the output layer: they stay in the type of the files.
    pub(super) fn shell_float(&self) -> u64 {
        self.file.size() as u64
    }
}
