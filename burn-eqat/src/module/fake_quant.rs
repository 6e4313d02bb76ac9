use crate::quantizer::min_max_start;
use crate::{Scheme, SchemeError};
use burn::module::{Module, Param, Reparameterization};
use burn::tensor::{Int, Tensor};
use burn_eqat_kernels::fake_quantize;

/// A weight under training (phase Block-AP). A forward pass uses its quantized value; the optimizer
/// updates the weight itself, its step sizes and its zero points.
///
/// Attached by [`Quantize::attach_fake_quant`](crate::Quantize::attach_fake_quant) to a weight
/// `[d_input, d_output]`. Records, optimizers and parameter groups have it at
/// `<path of the weight>.fake_quant`.
///
/// ```
/// use burn::module::Reparameterization;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat::FakeQuant;
///
/// let weight = Tensor::<2>::random([64, 16], Distribution::Uniform(-1.0, 1.0), &Device::flex());
/// let fake_quant = FakeQuant::min_max(weight.clone(), "w4g32".parse()?)?;
/// assert_eq!(fake_quant.scales.dims(), [2, 16]);
/// // What a forward pass uses. A step is at most a fifteenth of the range from -1 to 1.
/// let quantized = fake_quant.apply(weight.clone());
/// assert!((quantized - weight).abs().max().into_scalar::<f32>() < 2.0 / 15.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
pub struct FakeQuant {
    /// Step sizes, `[groups, d_output]`.
    pub scales: Param<Tensor<2>>,
    /// Zero points, `[groups, d_output]`: real numbers, rounded and clamped on use.
    pub zero_points: Param<Tensor<2>>,
    /// The scheme as numbers, for visitors and records, which only see parameters.
    pub(super) tag: Param<Tensor<1, Int>>,
    #[module(skip)]
    scheme: Scheme,
}

impl FakeQuant {
    /// Fake quantization of `weight [d_input, d_output]`, with min-max start values.
    ///
    /// # Errors
    ///
    /// When the scheme's groups do not divide `d_input`.
    pub fn min_max(weight: Tensor<2>, scheme: Scheme) -> Result<Self, SchemeError> {
        let [d_input, _] = weight.dims();
        let (scales, zero_points) = min_max_start(weight, &scheme)?;
        Ok(Self::of(scales, zero_points, scheme, d_input))
    }

    /// Fake quantization of a weight with `d_input` rows by these step sizes and zero points, `[groups, d_output]`.
    pub(crate) fn of(
        scales: Tensor<2>,
        zero_points: Tensor<2>,
        scheme: Scheme,
        d_input: usize,
    ) -> Self {
        let device = scales.device();
        Self {
            scales: Param::from_tensor(scales.detach()),
            zero_points: Param::from_tensor(zero_points).set_require_grad(!scheme.symmetric),
            tag: super::tag::tag(scheme, d_input, &device),
            scheme,
        }
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
}

impl Reparameterization for FakeQuant {
    const NAME: &'static str = "fake_quant";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.dims();
        let mut zero_points = self.zero_points.val();
        if self.scheme.symmetric {
            zero_points = zero_points.detach();
        }
        let weight = base.reshape([shape[0], shape[1..].iter().product()]);
        fake_quantize(weight, self.scales.val(), zero_points, self.scheme.bits)
            .unwrap_or_else(|error| error.raise())
            .reshape(shape)
    }
}
