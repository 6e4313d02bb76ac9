use crate::error::Error;
use crate::load::{LoadedLlama, Tables};
use burn::tensor::Device;
use burn_eqat::ComputeType;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `--dtype`, shared by the commands.
#[derive(clap::Args, Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ComputeArg {
    /// Type of activations and products, f32, bf16 or f16; norms, softmax, losses and what trains stay in f32.
    /// Small gradients vanish in f16, so train in another [default: bf16 on a GPU that has it, else f32]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<ComputeType>,
}

impl ComputeArg {
    /// The type on a device.
    ///
    /// # Errors
    ///
    /// When the device does not compute in it.
    pub(super) fn on(&self, device: &Device) -> Result<ComputeType, Error> {
        let compute = match self.dtype {
            Some(given) => given,
            None => ComputeType::of_device(device),
        };
        compute.check(device)?;
        Ok(compute)
    }

    /// What is given from here on.
    pub(super) fn set(&mut self, compute: ComputeType) {
        self.dtype = Some(compute);
    }

    /// Opens a model to run it in the type.
    ///
    /// # Errors
    ///
    /// As [`on`](Self::on), and when the model cannot be loaded.
    pub(super) fn open(&self, dir: &Path, device: &Device) -> Result<LoadedLlama, Error> {
        let compute = self.on(device)?;
        // Tables in f32 are faster, those of the file smaller.
        let tables = match compute.is_half() {
            true => Tables::AsStored,
            false => Tables::F32,
        };
        Ok(LoadedLlama::open_with(dir, device, tables)?.with_compute_type(compute))
    }
}
