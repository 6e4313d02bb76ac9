//! Quantization of whole modules.

mod attach;
pub(super) mod map;
pub(super) mod pack;

pub(crate) use attach::{attach_fake_quant, attach_skeletons};

use super::matrices::select;
use super::{LayerSize, QuantizeError, SizeReport, Weights};
use crate::Schemes;
use crate::files::{FileError, load_module, save_module};
use attach::attach_packed;
use burn::module::{Module, ParamGroup};
use std::path::Path;

/// Quantization for any Burn module.
///
/// A weight is a matrix parameter `[d_input, d_output]`, as in `nn::Linear`; [`Weights`] say which are
/// quantized, [`Schemes`] how. The module's type never changes: what is attached to its parameters does.
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
    /// Attaches fake quantization to the selected weights, from their min-max start: the state that
    /// Block-AP trains. Selected parameters that are not matrices (norms, biases) are left alone.
    ///
    /// # Errors
    ///
    /// When no matrix is selected, one has quantization attached already, the groups of its scheme do
    /// not divide its rows, or an override matches none of the selected weights.
    fn attach_fake_quant(
        self,
        weights: &Weights,
        schemes: impl Into<Schemes>,
    ) -> Result<Self, QuantizeError> {
        let selected = select(&self, weights, &schemes.into())?;
        Ok(attach_fake_quant(self, &selected))
    }

    /// Turns every fake-quantized weight into a packed one. The values that a forward pass sees stay
    /// the same; the full-precision weights are dropped and only step sizes can train from here on.
    ///
    /// # Errors
    ///
    /// When a weight, step size or zero point is not a finite number.
    fn pack(self) -> Result<Self, QuantizeError> {
        pack::pack(self)
    }

    /// Round to nearest: quantizes the selected weights from their min-max start and packs them,
    /// without training. Step sizes are rounded as files hold them
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

    /// Replaces the selected weights by packed ones that are still to be loaded, without ever
    /// allocating the dense ones: what to load a packed record or file into.
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

    /// Rounds the step sizes of packed and fake-quantized weights to what a 16-bit float can hold, as
    /// files store them: what is saved after this is what was measured before it, to the bit.
    fn round_scales(self) -> Self {
        map::round_scales(self)
    }

    /// Freezes everything but the step sizes of packed weights: what E2E-QP trains.
    fn train_scales_only(self) -> Self {
        let paths = super::packed_weights(&self)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        self.no_grad()
            .set_require_grad_group(ParamGroup::from_paths(paths), true)
    }

    /// How large the module is, and how much of it the quantized weights are.
    fn size_report(&self) -> SizeReport {
        SizeReport::of(self)
    }

    /// The size of each packed weight, in the order in which the module has them.
    fn layer_sizes(&self) -> Vec<LayerSize> {
        LayerSize::all(self)
    }

    /// Writes the module to one safetensors file: packed weights as they are, everything else in the type that
    /// it has in memory, and the schemes. It is written beside its place and renamed; a file that is there is
    /// replaced. (A model with a `config.json` is better saved by [`save_model`](crate::files::save_model).)
    ///
    /// # Errors
    ///
    /// When a weight is fake-quantized ([`pack`](Self::pack) it first), a tensor cannot be read from its device, or
    /// the file cannot be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        save_module(self, path.as_ref())
    }

    /// Reads a file that [`save`](Self::save) wrote into a module of the same type: the weights that the file has
    /// packed are packed then, whatever they were before, and the others are dense.
    ///
    /// # Errors
    ///
    /// When the file is not one that `save` wrote, or is one of another module: the first tensor that is missing, not
    /// expected, or of another shape or type is named.
    fn load(self, path: impl AsRef<Path>) -> Result<Self, FileError> {
        load_module(self, path.as_ref())
    }
}

impl<M: Module> Quantize for M {}
