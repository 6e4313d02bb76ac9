use super::error::AdapterError;
use super::{PackedBase, file};
use crate::module::{float_data, float_shapes, place_floats};
use burn::module::Module;
use burn::tensor::{DType, TensorData};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A set of step sizes for a packed model, and of other parameters if they were trained, too.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::adapter::Adapter;
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
/// let adapter = Adapter::of(&tuned)?;
/// let again = adapter.apply(base)?;
/// assert_eq!(again.weight.val().into_data(), tuned.weight.val().into_data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(super) base: PackedBase,
    /// Step sizes `[groups, d_output]` in f32, by the paths of the weights; one for each of the base.
    pub(super) scales: BTreeMap<String, TensorData>,
    /// Other parameters, by their paths.
    pub(super) parameters: BTreeMap<String, TensorData>,
    /// Where it is from.
    pub(super) file: Option<PathBuf>,
}

impl Adapter {
    /// The step sizes of a packed model, such as E2E-QP returns. They are not rounded; E2E-QP has done it, unless
    /// [`round_scales`](crate::train::E2eQpConfig::round_scales) is off.
    ///
    /// # Errors
    ///
    /// When nothing in the model is packed, or a weight is fake-quantized.
    pub fn of<M: Module>(tuned: &M) -> Result<Self, AdapterError> {
        let base = PackedBase::of(tuned)?;
        let scales = float_data(tuned, &|path| base.weights().contains_key(path)).into_iter();
        let scales = scales.map(|(path, data)| (path, data.convert_dtype(DType::F32)));
        Ok(Self {
            scales: scales.collect(),
            base,
            parameters: BTreeMap::new(),
            file: None,
        })
    }

    /// As [`of`](Self::of), with every other float parameter in which `tuned` differs from `base`: norms, if they were trained
    /// with the step sizes.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use burn_eqat::adapter::Adapter;
    /// use burn_eqat::{QuantLinearConfig, Quantize, Scheme, Weights};
    ///
    /// let scheme: Scheme = "w4g32".parse()?;
    /// let layer = QuantLinearConfig::new(64, 16).init(&Device::flex());
    /// let base = layer.quantize_rtn(&Weights::linears(), scheme)?;
    /// # let mut tuned = base.clone();
    /// # tuned.bias = tuned.bias.map(|bias| bias.map(|values| values + 1.0));
    /// // ... `tuned` is `base` with other step sizes and another bias ...
    /// let adapter = Adapter::between(&base, &tuned)?;
    /// assert_eq!(adapter.parameters().collect::<Vec<_>>(), ["bias"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of); also when the packed weights of the two differ, or the shape of a parameter.
    pub fn between<M: Module>(base: &M, tuned: &M) -> Result<Self, AdapterError> {
        let mut adapter = Self::of(tuned)?;
        adapter.check(&PackedBase::of(base)?)?;
        let others = |path: &str| !adapter.scales.contains_key(path);
        let (before, after) = (float_data(base, &others), float_data(tuned, &others));
        for (path, data) in after {
            let before = before.get(&path);
            let Some(before) = before.filter(|before| before.shape() == data.shape()) else {
                let message = format!(
                    "has shape {:?}, and another in the base",
                    data.shape().as_slice()
                );
                return Err(AdapterError::parameter(None, &path, message));
            };
            // To the bit: a comparison of numbers would take the two zeros for the same.
            if before.dtype() != data.dtype() || before.as_bytes() != data.as_bytes() {
                adapter.parameters.insert(path, data);
            }
        }
        Ok(adapter)
    }

    /// What it fits.
    pub fn base(&self) -> &PackedBase {
        &self.base
    }

    /// Paths of the parameters that it has besides step sizes.
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = &str> {
        self.parameters.keys().map(String::as_str)
    }

    /// Writes it to a safetensors file. Step sizes are in 16 bits if that loses nothing, else in 32, as in the files of a packed
    /// model. An existing file is replaced once the new one is complete.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use burn_eqat::adapter::Adapter;
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
    /// # let dir = tempfile::tempdir()?;
    /// # let file = dir.path().join("stories.safetensors");
    /// // ... `tuned` is what E2E-QP makes of `base` ...
    /// Adapter::of(&tuned)?.save(&file)?;
    /// let again = Adapter::load(&file)?.apply(base)?;
    /// assert_eq!(again.weight.val().into_data(), tuned.weight.val().into_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), AdapterError> {
        Ok(file::save(self, path.as_ref())?)
    }

    /// Reads a file of [`save`](Self::save).
    ///
    /// # Errors
    ///
    /// When the file is not one, is damaged, or has step sizes that are not finite.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, AdapterError> {
        Ok(file::load(path.as_ref())?)
    }

    /// Puts the step sizes into a model with the same packed weights. Its codes stay where they are, and are read once to see
    /// that they are the same; [`Adapted`](super::Adapted) does that once for any number of adapters.
    ///
    /// What the model is otherwise stays, so parameters that another adapter has put there do, too.
    ///
    /// # Errors
    ///
    /// When the model's packed weights are not those of the adapter ([`AdapterError::WrongBase`] says in what), or it has not a
    /// parameter of the adapter in the same shape.
    pub fn apply<M: Module>(&self, model: M) -> Result<M, AdapterError> {
        self.check(&PackedBase::of(&model)?)?;
        self.place(model)
    }

    /// Fails for another base.
    pub(super) fn check(&self, base: &PackedBase) -> Result<(), AdapterError> {
        match self.base.difference(base) {
            None => Ok(()),
            Some(difference) => Err(AdapterError::WrongBase {
                file: self.file.clone(),
                difference,
            }),
        }
    }

    /// Puts everything into a model that has the base.
    pub(super) fn place<M: Module>(&self, model: M) -> Result<M, AdapterError> {
        let shapes = float_shapes(&model);
        let values = self.scales.iter().chain(&self.parameters);
        let values: BTreeMap<&str, &TensorData> =
            values.map(|(path, data)| (path.as_str(), data)).collect();
        for (path, data) in &values {
            let wrong =
                |message: String| Err(AdapterError::parameter(self.file.as_deref(), path, message));
            match shapes.get(*path) {
                None => return wrong("the model has no such parameter".to_string()),
                Some(shape) if shape != data.shape() => {
                    let found = data.shape().as_slice();
                    let expected = shape.as_slice();
                    return wrong(format!("has shape {found:?}, expected {expected:?}"));
                }
                Some(_) => {}
            }
        }
        Ok(place_floats(model, &values))
    }
}
