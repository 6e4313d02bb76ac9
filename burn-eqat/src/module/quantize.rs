use super::collect::{Attached, Candidate, PackedWeight, attached, candidates};
use super::packed::pack_zero_points;
use super::{FakeQuant, Packed, SizeReport};
use crate::quantizer::quantize_codes;
use crate::{Scheme, SchemeError};
use burn::module::{
    Module, ModuleMapper, Param, ParamGroup, ParamId, Reparameterization, Reparameterizer,
};
use burn::tensor::{DType, Shape, Tensor};
use burn_eqat_kernels::pack;
use std::collections::HashMap;

/// A module that cannot be quantized as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantizeError {
    /// The scheme does not fit a weight.
    #[error("{path}: {error}")]
    Scheme {
        /// Path of the weight.
        path: String,
        /// What does not fit.
        #[source]
        error: SchemeError,
    },
    /// The group selects no matrix.
    #[error("the parameter group selects no weight matrix")]
    NothingSelected,
    /// The weight has quantization attached already.
    #[error("{path}: already quantized")]
    AlreadyQuantized {
        /// Path of the weight.
        path: String,
    },
    /// A weight, step size or zero point that is not a finite number.
    #[error("{path}: holds numbers that are not finite")]
    NotFinite {
        /// Path of the weight.
        path: String,
    },
}

/// Quantization for any Burn module.
///
/// A weight is a matrix parameter `[d_input, d_output]`, as in `nn::Linear`; a [`ParamGroup`] says
/// which take part. The module's type never changes: what is attached to its parameters does.
///
/// ```
/// use burn::module::ParamGroup;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_eqat::Quantize;
///
/// let model: Linear = LinearConfig::new(128, 32).init(&Device::flex());
/// let weights = ParamGroup::from_predicate("weight");
/// let packed = model.quantize_rtn(&weights, "w4g64".parse().unwrap()).unwrap();
/// assert_eq!(packed.size_report().bits_per_weight(), 4.0 + 20.0 / 64.0);
/// ```
pub trait Quantize: Module {
    /// Attaches fake quantization to the selected weights, from their min-max start: the state that
    /// Block-AP trains. Selected parameters that are not matrices (norms, biases) are left alone.
    ///
    /// # Errors
    ///
    /// When no matrix is selected, one has quantization attached already, or the scheme's groups do
    /// not divide its rows. The module is not changed then.
    fn attach_fake_quant(
        self,
        weights: &ParamGroup,
        scheme: Scheme,
    ) -> Result<Self, QuantizeError> {
        let paths = selected(&self, weights, scheme)?;
        Ok(self.apply_reparameterization(AttachFakeQuant { paths, scheme }))
    }

    /// Turns every fake-quantized weight into a packed one. The values that a forward pass sees stay
    /// the same; the full-precision weights are dropped and only step sizes can train from here on.
    ///
    /// # Errors
    ///
    /// When a weight, step size or zero point is not a finite number.
    fn pack(self) -> Result<Self, QuantizeError> {
        let mut table = HashMap::new();
        for (path, attached) in attached(&self) {
            let (scale, packed) = match attached {
                Attached::Fake {
                    weight,
                    scale,
                    zero_point,
                    scheme,
                } => {
                    if ![&weight, &scale, &zero_point].into_iter().all(is_finite) {
                        return Err(QuantizeError::NotFinite { path });
                    }
                    let packed = pack_weight(weight, &scale, zero_point, scheme);
                    (clamp_scale(scale), packed)
                }
                Attached::Packed(weight) => {
                    let scale = weight.scale.clone();
                    (scale, keep_packed(weight))
                }
            };
            table.insert(path, (scale, packed));
        }
        // A parameter keeps the first attachment it got, so the old ones have to go first.
        Ok(self
            .materialize()
            .apply_reparameterization(AttachPacked { table }))
    }

    /// Round to nearest: quantizes the selected weights from their min-max start and packs them,
    /// without training. Step sizes are rounded as files hold them
    /// ([`round_scales`](Self::round_scales)).
    ///
    /// # Errors
    ///
    /// As [`attach_fake_quant`](Self::attach_fake_quant) and [`pack`](Self::pack).
    fn quantize_rtn(self, weights: &ParamGroup, scheme: Scheme) -> Result<Self, QuantizeError> {
        let packed = self.attach_fake_quant(weights, scheme)?.pack()?;
        Ok(packed.round_scales())
    }

    /// Replaces the selected weights by packed ones that are still to be loaded, without ever
    /// allocating the dense ones: what to load a packed record or file into.
    ///
    /// # Errors
    ///
    /// As [`attach_fake_quant`](Self::attach_fake_quant).
    fn attach_packed(self, weights: &ParamGroup, scheme: Scheme) -> Result<Self, QuantizeError> {
        let paths = selected(&self, weights, scheme)?;
        Ok(self.apply_reparameterization(AttachSkeleton { paths, scheme }))
    }

    /// Turns every fake-quantized or packed weight into a dense one of the same values.
    fn unpack(self) -> Self {
        self.materialize()
    }

    /// Rounds the step sizes of packed and fake-quantized weights to what a 16-bit float can hold, as
    /// files store them: what is saved after this is what was measured before it, to the bit.
    fn round_scales(self) -> Self {
        let group = ParamGroup::from_paths(scale_paths(&self));
        map_group(self, group, &|scale| {
            let dtype = scale.dtype();
            scale.cast(DType::F16).cast(dtype)
        })
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
}

impl<M: Module> Quantize for M {}

/// The paths of the selected weights, once all of them fit the scheme.
fn selected<M: Module>(
    module: &M,
    weights: &ParamGroup,
    scheme: Scheme,
) -> Result<Vec<String>, QuantizeError> {
    let found = checked_candidates(module, weights, scheme)?;
    Ok(found.into_iter().map(|weight| weight.path).collect())
}

/// The ids of the selected weights, once all of them fit the scheme; `at` is where the module is in a
/// larger one, and may have none of them.
pub(crate) fn selected_ids<M: Module>(
    module: &M,
    weights: &ParamGroup,
    scheme: Scheme,
    at: Option<&str>,
) -> Result<Vec<ParamId>, QuantizeError> {
    let found = checked(candidates(module, weights, at), scheme)?;
    Ok(found.into_iter().map(|weight| weight.id).collect())
}

fn checked_candidates<M: Module>(
    module: &M,
    weights: &ParamGroup,
    scheme: Scheme,
) -> Result<Vec<Candidate>, QuantizeError> {
    let found = checked(candidates(module, weights, None), scheme)?;
    match found.is_empty() {
        true => Err(QuantizeError::NothingSelected),
        false => Ok(found),
    }
}

/// The same weights, once all of them fit the scheme.
fn checked(found: Vec<Candidate>, scheme: Scheme) -> Result<Vec<Candidate>, QuantizeError> {
    for weight in &found {
        let path = weight.path.clone();
        if weight.attached {
            return Err(QuantizeError::AlreadyQuantized { path });
        }
        scheme
            .groups(weight.shape[0])
            .map_err(|error| QuantizeError::Scheme { path, error })?;
    }
    Ok(found)
}

fn clamp_scale(scale: Tensor<2>) -> Tensor<2> {
    use burn_eqat_kernels::{SCALE_MAX, SCALE_MIN};
    scale.detach().clamp(SCALE_MIN, SCALE_MAX)
}

fn is_finite(tensor: &Tensor<2>) -> bool {
    tensor.clone().is_finite().all().into_scalar::<bool>()
}

/// Codes of a weight that are there at a time while it is packed.
const CODES: usize = 1 << 20;

/// Packs a weight, some groups at a time: the integers that codes are before they are packed take as much
/// room as the weight.
fn pack_weight(
    weight: Tensor<2>,
    scale: &Tensor<2>,
    zero_point: Tensor<2>,
    scheme: Scheme,
) -> Packed {
    const CLAMPED: &str = "codes are clamped to their bits";
    let max_code = f64::from(scheme.bits.max_code());
    let zeros = zero_point.detach().round().clamp(0.0, max_code);
    let ([d_input, n], [groups, _]) = (weight.dims(), scale.dims());
    let rows = d_input / groups;
    // Groups that fill whole words, 32 rows of any bits.
    let unit = (1..=32).find(|groups| (groups * rows).is_multiple_of(32));
    let unit = unit.expect("32 groups do");
    let step = (CODES / (rows * n).max(1)).next_multiple_of(unit).max(unit);
    let words = (0..groups).step_by(step).map(|first| {
        let part = first..(first + step).min(groups);
        let weight = weight
            .clone()
            .slice_dim(0, part.start * rows..part.end * rows);
        let scale = scale.clone().slice_dim(0, part.clone());
        let zeros = zeros.clone().slice_dim(0, part);
        pack(
            quantize_codes(weight, scale, zeros, scheme.bits),
            scheme.bits,
        )
        .expect(CLAMPED)
    });
    let words = Tensor::cat(words.collect(), 0);
    let zeros = pack_zero_points(zeros.int(), scheme.bits).expect(CLAMPED);
    Packed::from_words(words, zeros, d_input, scheme)
}

fn keep_packed(weight: PackedWeight) -> Packed {
    Packed::from_words(
        weight.codes,
        weight.zero_points,
        weight.d_input,
        weight.scheme,
    )
}

/// Paths of the step sizes of fake-quantized and packed weights.
fn scale_paths<M: Module>(module: &M) -> Vec<String> {
    attached(module)
        .into_iter()
        .map(|(path, attached)| match attached {
            Attached::Fake { .. } => format!("{path}.{}.scale", FakeQuant::NAME),
            Attached::Packed(_) => path,
        })
        .collect()
}

/// Maps the matrices of a group.
fn map_group<M: Module>(
    module: M,
    group: ParamGroup,
    function: &dyn Fn(Tensor<2>) -> Tensor<2>,
) -> M {
    struct Mapper<'a> {
        path: Vec<String>,
        group: ParamGroup,
        function: &'a dyn Fn(Tensor<2>) -> Tensor<2>,
    }
    impl ModuleMapper for Mapper<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let path = self.path.join(".");
            if !self.group.matches(&param.id, Some(&path)) {
                return param;
            }
            param.map(|value| {
                let (shape, tracked) = (value.dims(), value.is_require_grad());
                let value = value.detach().reshape([shape[0], shape[1]]);
                let mapped = (self.function)(value).reshape(shape);
                mapped.set_require_grad(tracked)
            })
        }
    }
    module.map(&mut Mapper {
        path: Vec::new(),
        group,
        function,
    })
}

struct AttachFakeQuant {
    paths: Vec<String>,
    scheme: Scheme,
}

impl Reparameterizer for AttachFakeQuant {
    type Reparam = FakeQuant;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<FakeQuant>) {
        if !self.paths.iter().any(|p| p == path) {
            return (param, None);
        }
        let dims = param.dims();
        let weight = param.base().detach().reshape([dims[0], dims[1]]);
        let attached = FakeQuant::min_max(weight, self.scheme).expect("checked before");
        (param, Some(attached))
    }
}

struct AttachPacked {
    table: HashMap<String, (Tensor<2>, Packed)>,
}

impl Reparameterizer for AttachPacked {
    type Reparam = Packed;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Packed>) {
        let Some((scale, packed)) = self.table.remove(path) else {
            return (param, None);
        };
        let shape = Shape::new(scale.dims());
        let scale = scale.detach().reshape::<D, _>(shape);
        let base = Param::initialized(param.id, scale).set_require_grad(true);
        (base, Some(packed))
    }
}

struct AttachSkeleton {
    paths: Vec<String>,
    scheme: Scheme,
}

impl Reparameterizer for AttachSkeleton {
    type Reparam = Packed;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Packed>) {
        if !self.paths.iter().any(|p| p == path) {
            return (param, None);
        }
        let dims = param.lazy_shape();
        let (k, n) = (dims[0], dims[1]);
        let groups = self.scheme.groups(k).expect("checked before");
        let device = param.lazy_device();
        let packed = Packed::skeleton([k, n], groups, self.scheme, &device);
        let shape = Shape::new([groups, n]);
        let base = Param::uninitialized(
            param.id,
            {
                let shape = shape.clone();
                move |device: &burn::tensor::Device, track| {
                    Tensor::<D>::zeros(shape, device).set_require_grad(track)
                }
            },
            device,
            true,
            shape,
        );
        (base, Some(packed))
    }
}
