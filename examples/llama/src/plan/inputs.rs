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
    /// Whether the model writes its calibration text, for which all of it is in memory.
    pub writes_calibration: bool,
    /// How the run was asked to work.
    pub settings: QuantizeSettings,
    /// Whether the device has the fused ops of a transformer, in that type: norms, attention and the feed-forward activation.
    pub fused: bool,
    /// Whether the device has a memory of its own.
    pub separate_device: bool,
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
