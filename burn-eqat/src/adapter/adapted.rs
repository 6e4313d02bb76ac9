use super::error::AdapterError;
use super::{Adapter, PackedBase};
use burn::module::Module;

/// A packed model in memory that goes from one adapter to another.
///
/// Codes and zero points are read when it is made, for their checksums, and never again: a switch puts tensors of step sizes in
/// the place of others. All adapters share everything else with the base. (A copy for faster decoding,
/// [`InferenceConfig::repack_weights`](crate::InferenceConfig::repack_weights), has step sizes in it, so it is made anew when a
/// layer first runs after a switch.)
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::adapter::{Adapted, Adapter};
/// use burn_eqat::{QuantLinearConfig, Quantize, Scheme, Weights};
/// # use burn::{module::{Module, ModuleMapper, Param}, tensor::Tensor};
///
/// let scheme: Scheme = "w4g32".parse()?;
/// let layer = QuantLinearConfig::new(64, 16).init(&Device::flex());
/// let base = layer.quantize_rtn(&Weights::linears(), scheme)?;
/// # struct Doubled;
/// # impl ModuleMapper for Doubled {
/// #     fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> { param.map(|values| values * 2.0) }
/// # }
/// # let tuned = base.clone().map(&mut Doubled);
/// // ... `tuned` is what E2E-QP makes of `base` ...
/// let mut model = Adapted::new(base.clone())?;
/// model.switch(&Adapter::of(&tuned)?)?;
/// assert_eq!(model.model().weight.val().into_data(), tuned.weight.val().into_data());
/// model.reset();
/// assert_eq!(model.model().weight.val().into_data(), base.weight.val().into_data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adapted<M> {
    base: PackedBase,
    /// The model as it came. It shares its tensors with the other, but for those of an adapter.
    original: M,
    model: M,
}

impl<M: Module> Adapted<M> {
    /// A packed model, with its own step sizes for now.
    ///
    /// # Errors
    ///
    /// When nothing in the model is packed, or a weight is fake-quantized.
    pub fn new(model: M) -> Result<Self, AdapterError> {
        Ok(Self {
            base: PackedBase::of(&model)?,
            original: model.clone(),
            model,
        })
    }

    /// Puts an adapter in the place of the one before.
    ///
    /// # Errors
    ///
    /// As [`Adapter::apply`]. The model has the adapter of before then.
    pub fn switch(&mut self, adapter: &Adapter) -> Result<(), AdapterError> {
        adapter.check(&self.base)?;
        // From the original: the one before may have had parameters that this one has not.
        self.model = adapter.place(self.original.clone())?;
        Ok(())
    }

    /// Goes back to the step sizes that the model came with.
    pub fn reset(&mut self) {
        self.model = self.original.clone();
    }

    /// The model with the adapter that it has now.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, with the adapter that it has now.
    pub fn into_model(self) -> M {
        self.model
    }

    /// What adapters have to fit.
    pub fn base(&self) -> &PackedBase {
        &self.base
    }
}
