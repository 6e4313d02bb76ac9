//! Quantization of whole modules.

mod attach;
pub(super) mod map;
pub(super) mod pack;

pub(crate) use attach::{attach_fake_quant, attach_skeletons};
pub(crate) use map::{map_scales, place_scales};

use super::matrices::select;
use super::{LayerSize, QuantizeError, SizeReport, Weights};
use crate::Schemes;
use crate::files::{FileError, load_module, save_module};
use attach::attach_packed;
use burn::module::{Module, ParamGroup};
use std::path::Path;

/// Quantization for any Burn module.
///
/// A weight is a matrix parameter `[d_input, d_output]`, as in `nn::Linear`. [`Weights`] selects the weights,
/// [`Schemes`] their bits and group sizes. The module's type never changes, only its attachments do.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_eqat::{Quantize, Scheme, Weights};
///
/// let model: Linear = LinearConfig::new(128, 32).init(&Device::flex());
/// let scheme: Scheme = "w4g64".parse()?;
/// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
/// assert_eq!(packed.size_report().bits_per_weight(), 4.0 + 20.0 / 64.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Quantize: Module {
    /// Attaches fake quantization to the selected weights, with min-max start values. Block-AP trains a model in
    /// this state. Selected parameters that are not matrices (norms, biases) do not change.
    ///
    /// # Errors
    ///
    /// When no matrix is selected, a matrix has quantization attached already, the groups of its scheme do
    /// not divide its rows, or an override matches none of the selected weights.
    fn attach_fake_quant(
        self,
        weights: &Weights,
        schemes: impl Into<Schemes>,
    ) -> Result<Self, QuantizeError> {
        let selected = select(&self, weights, &schemes.into())?;
        Ok(attach_fake_quant(self, &selected))
    }

    /// Turns every fake-quantized weight into a packed one. A forward pass gives the same values as before. The
    /// full-precision weights are dropped, and from then on only step sizes can be trained.
    ///
    /// # Errors
    ///
    /// When a weight, step size or zero point is not a finite number.
    fn pack(self) -> Result<Self, QuantizeError> {
        pack::pack(self)
    }

    /// Round to nearest: quantizes the selected weights with min-max start values and packs them,
    /// without training. Step sizes are rounded as in files
    /// ([`round_scales`](Self::round_scales)).
    ///
    /// # Errors
    ///
    /// As [`attach_fake_quant`](Self::attach_fake_quant) and [`pack`](Self::pack).
    fn quantize_rtn(
        self,
        weights: &Weights,
        schemes: impl Into<Schemes>,
    ) -> Result<Self, QuantizeError> {
        let packed = self.attach_fake_quant(weights, schemes)?.pack()?;
        Ok(packed.round_scales())
    }

    /// Replaces the selected weights by packed ones to be loaded later, without allocating the dense ones. Load a
    /// packed record or file into the result.
    ///
    /// # Errors
    ///
    /// As [`attach_fake_quant`](Self::attach_fake_quant).
    fn attach_packed(
        self,
        weights: &Weights,
        schemes: impl Into<Schemes>,
    ) -> Result<Self, QuantizeError> {
        let selected = select(&self, weights, &schemes.into())?;
        Ok(attach_packed(self, &selected))
    }

    /// Turns every fake-quantized or packed weight into a dense one of the same values.
    fn unpack(self) -> Self {
        self.materialize()
    }

    /// Rounds the step sizes of packed and fake-quantized weights to 16-bit floats, as in files. A model that is
    /// measured after this gives the same results, to the bit, when it is saved and loaded.
    fn round_scales(self) -> Self {
        map::round_scales(self)
    }

    /// Freezes everything but the step sizes of packed weights, which E2E-QP trains.
    fn train_scales_only(self) -> Self {
        let paths = super::packed_weights(&self)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        self.no_grad()
            .set_require_grad_group(ParamGroup::from_paths(paths), true)
    }

    /// The size of the module and of its quantized weights.
    fn size_report(&self) -> SizeReport {
        SizeReport::of_part(self, &|_| true)
    }

    /// The size of each packed weight, in the order in which the module has them.
    fn layer_sizes(&self) -> Vec<LayerSize> {
        LayerSize::of_part(self, &|_| true)
    }

    /// Writes the module to one safetensors file: packed weights as they are, everything else in its type in
    /// memory, and the schemes. An existing file is replaced once the new one is complete. (For a model with a
    /// `config.json`, use [`save_model`](crate::files::save_model).)
    ///
    /// # Errors
    ///
    /// When a weight is fake-quantized ([`pack`](Self::pack) it first), a tensor cannot be read from its device, or
    /// the file cannot be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        save_module(self, path.as_ref())
    }

    /// Reads a file of [`save`](Self::save) into a module of the same type. Afterwards the weights are packed if they
    /// are packed in the file, and otherwise dense, whatever they were before.
    ///
    /// # Errors
    ///
    /// When the file was not written by `save`, or belongs to another module. The error names the first tensor that is
    /// missing, unexpected, or of another shape or type.
    fn load(self, path: impl AsRef<Path>) -> Result<Self, FileError> {
        load_module(self, path.as_ref())
    }
}

impl<M: Module> Quantize for M {}
