//! Quantization of whole modules.

mod attach;
pub(super) mod map;
mod near;
pub(super) mod pack;

pub(crate) use attach::{attach_fake_quant, attach_searched, attach_skeletons};
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
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_eqat::{FakeQuant, Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let model = model.attach_fake_quant(&Weights::linears(), scheme)?;
    /// let fake_quant = model.weight.reparameterization::<FakeQuant>().expect("it was selected");
    /// assert_eq!(fake_quant.scales.dims(), [2, 16]);
    /// // ... train the weight, the step sizes and the zero points, then `model.pack()` ...
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let trained = model.attach_fake_quant(&Weights::linears(), scheme)?;
    /// let packed = trained.clone().pack()?;
    ///
    /// let x = Tensor::<2>::ones([3, 64], &Device::flex());
    /// let difference = packed.forward(x.clone()) - trained.forward(x);
    /// assert!(difference.abs().max().into_scalar::<f32>() < 1e-4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_eqat::{Quantize, Schemes, Weights};
    ///
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let schemes = Schemes::new("w2g32".parse()?).with_path("weight", "w3g64".parse()?);
    /// let packed = model.quantize_rtn(&Weights::linears(), schemes)?;
    /// assert_eq!(packed.layer_sizes()[0].scheme.to_string(), "w3g64");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Turns every packed weight into a fake-quantized one of the same values, all of whose parameters may train on: the opposite of
    /// [`pack`](Self::pack). A full-precision weight that was dropped cannot come back. In its place is the one that is nearest to
    /// that of `original`, the same model before it was quantized, of all that have these codes.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w2g32".parse()?;
    /// let original = LinearConfig::new(64, 16).init(&Device::flex());
    /// let packed = original.clone().quantize_rtn(&Weights::linears(), scheme)?;
    /// let again = packed.clone().fake_quantize_near(&original)?.pack()?;
    /// assert_eq!(again.weight.val().into_data(), packed.weight.val().into_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When `original` has no matrix of the right shape at the path of a packed weight.
    fn fake_quantize_near(self, original: &Self) -> Result<Self, QuantizeError> {
        near::fake_quantize_near(self, original)
    }

    /// Replaces the selected weights by packed ones to be loaded later, without allocating the dense ones. Load a
    /// packed record or file into the result.
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
    /// let record = packed.clone().into_record();
    ///
    /// let new = LinearConfig::new(64, 16).init(&Device::flex());
    /// let loaded = new.attach_packed(&Weights::linears(), scheme)?.load_record(record);
    /// assert_eq!(loaded.weight.val().into_data(), packed.weight.val().into_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_eqat::{Packed, Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
    /// let dense = packed.clone().unpack();
    /// assert!(dense.weight.reparameterization::<Packed>().is_none());
    /// assert_eq!(dense.weight.val().into_data(), packed.weight.val().into_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn unpack(self) -> Self {
        self.materialize()
    }

    /// Rounds the step sizes of packed and fake-quantized weights to 16-bit floats, as in files. A model that is
    /// measured after this gives the same results, to the bit, when it is saved and loaded.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::{DType, Device};
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let packed = model.attach_fake_quant(&Weights::linears(), scheme)?.pack()?.round_scales();
    /// let scales = packed.weight.base().into_data();
    /// let rounded = scales.clone().convert_dtype(DType::F16).convert_dtype(DType::F32);
    /// assert_eq!(scales, rounded);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn round_scales(self) -> Self {
        map::round_scales(self)
    }

    /// Freezes everything but the step sizes of packed weights, which E2E-QP trains.
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::LinearConfig;
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let device = Device::flex();
    /// let packed = LinearConfig::new(64, 16).init(&device).quantize_rtn(&Weights::linears(), scheme)?;
    /// let model = packed.train_scales_only().train();
    ///
    /// let x = Tensor::<2>::ones([3, 64], &device.autodiff());
    /// let loss = model.forward(x).square().mean();
    /// let grads = GradientsParams::from_grads(loss.backward(), &model);
    /// // None for the bias.
    /// assert_eq!(grads.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn train_scales_only(self) -> Self {
        let paths = super::packed_weights(&self)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        self.no_grad()
            .set_require_grad_group(ParamGroup::from_paths(paths), true)
    }

    /// The size of the module and of its quantized weights.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let report = model.quantize_rtn(&Weights::linears(), scheme)?.size_report();
    /// // The weight is packed, and the bias is not.
    /// assert_eq!((report.packed_weights, report.dense_params), (64 * 16, 16));
    /// assert_eq!(report.bits_per_weight(), scheme.bits_per_weight(64));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn size_report(&self) -> SizeReport {
        SizeReport::of_part(self, &|_| true)
    }

    /// The size of each packed weight, in the order in which the module has them.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let model = LinearConfig::new(64, 16).init(&Device::flex());
    /// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
    /// for layer in packed.layer_sizes() {
    ///     println!("{} in {}: {} bytes", layer.path, layer.scheme, layer.bytes);
    /// }
    /// assert_eq!(packed.layer_sizes()[0].path, "weight");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn layer_sizes(&self) -> Vec<LayerSize> {
        LayerSize::of_part(self, &|_| true)
    }

    /// Writes the module to one safetensors file: packed weights as they are, everything else in its type in
    /// memory, and the schemes. An existing file is replaced once the new one is complete. (For a model with a
    /// `config.json`, use [`save_model`](crate::files::save_model).)
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("model.safetensors");
    /// let new = || -> Linear { LinearConfig::new(64, 16).init(&Device::flex()) };
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let packed = new().quantize_rtn(&Weights::linears(), scheme)?;
    /// packed.save(&path)?;
    ///
    /// let loaded = new().load(&path)?;
    /// assert_eq!(loaded.weight.val().into_data(), packed.weight.val().into_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::{Quantize, Scheme, Weights};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("model.safetensors");
    /// let new = || -> Linear { LinearConfig::new(64, 16).init(&Device::flex()) };
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let packed = new().quantize_rtn(&Weights::linears(), scheme)?;
    /// packed.save(&path)?;
    ///
    /// // The new model is dense; it becomes what the file has.
    /// let loaded = new().load(&path)?;
    /// assert_eq!(loaded.size_report(), packed.size_report());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
