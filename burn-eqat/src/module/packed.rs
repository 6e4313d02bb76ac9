use crate::{InferenceConfig, Scheme};
use burn::module::{Module, Param, ParamId, Reparameterization};
use burn::tensor::{Device, Int, Shape, Tensor};
use burn_eqat_kernels::{
    OpError, PackError, PackedWeight, RepackedCopy, pack, pack_columns, unpack, unpack_columns,
    word_type,
};

/// A packed weight. The parameter's base has the step sizes `[groups, d_output]`, the attachment has
/// the integer codes and zero points, and `val()` is the dense `(q - z) * s`.
///
/// Only the step sizes are floats, so only they can be trained (phase E2E-QP). Attached by
/// [`Quantize::pack`](crate::Quantize::pack). Records have it at `<path of the weight>.packed`.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::{Packed, QuantLinearConfig, Quantize, Scheme, Weights};
///
/// let scheme: Scheme = "w2g32".parse()?;
/// let layer = QuantLinearConfig::new(64, 16).init(&Device::flex());
/// let layer = layer.quantize_rtn(&Weights::linears(), scheme)?;
///
/// let packed = layer.weight.reparameterization::<Packed>().expect("it is packed");
/// assert_eq!((packed.scheme(), packed.shape()), (scheme, [64, 16]));
/// assert_eq!(packed.unpacked_codes().dims(), [64, 16]);
/// // The step sizes.
/// assert_eq!(layer.weight.base().dims(), [2, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
pub struct Packed {
    /// Codes in words along `d_input`, `[ceil(d_input * b / 32), d_output]`.
    pub codes: Param<Tensor<2, Int>>,
    /// Zero points in words along `d_output`, `[groups, ceil(d_output * b / 32)]`.
    pub zero_points: Param<Tensor<2, Int>>,
    /// The scheme as numbers, for visitors and records, which only see parameters.
    pub(super) tag: Param<Tensor<1, Int>>,
    #[module(skip)]
    scheme: Scheme,
    d_input: usize,
    d_output: usize,
    #[module(skip)]
    copy: RepackedCopy,
}

impl Packed {
    /// Packs codes `[d_input, d_output]` and zero points `[groups, d_output]`.
    ///
    /// ```
    /// use burn::tensor::{Device, Int, Tensor};
    /// use burn_eqat::Packed;
    ///
    /// let device = Device::flex();
    /// let codes = Tensor::<2, Int>::from_data([[0], [1], [2], [3]], &device);
    /// let zero_points = Tensor::<2, Int>::from_data([[1]], &device);
    /// let packed = Packed::from_codes(codes, zero_points, "w2g4".parse()?)?;
    ///
    /// let scales = Tensor::<2>::from_data([[0.5]], &device);
    /// let dense = packed.weight(scales)?.dequantize()?;
    /// assert_eq!(dense.into_data().iter::<f32>().collect::<Vec<_>>(), [-0.5, 0.0, 0.5, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a code or a zero point does not fit in the scheme's bits.
    pub fn from_codes(
        codes: Tensor<2, Int>,
        zero_points: Tensor<2, Int>,
        scheme: Scheme,
    ) -> Result<Self, PackError> {
        let [d_input, _] = codes.dims();
        let words = pack(codes, scheme.bits)?;
        let zeros = pack_columns(zero_points, scheme.bits)?;
        Ok(Self::from_words(words, zeros, d_input, scheme))
    }

    /// The codes and zero points of a weight; its step sizes belong to the base of the parameter.
    pub(crate) fn from_weight(weight: PackedWeight, scheme: Scheme) -> Self {
        Self::from_words(weight.codes, weight.zero_points, weight.d_input, scheme)
    }

    /// A packed weight from its words.
    pub(crate) fn from_words(
        codes: Tensor<2, Int>,
        zero_points: Tensor<2, Int>,
        d_input: usize,
        scheme: Scheme,
    ) -> Self {
        let ([_, d_output], device) = (codes.dims(), codes.device());
        Self {
            codes: Param::initialized(ParamId::new(), codes),
            zero_points: Param::initialized(ParamId::new(), zero_points),
            tag: super::tag::tag(scheme, d_input, &device),
            scheme,
            d_input,
            d_output,
            copy: RepackedCopy::default(),
        }
    }

    /// An attachment whose words are loaded later; nothing is allocated.
    pub(crate) fn skeleton(
        [d_input, d_output]: [usize; 2],
        groups: usize,
        scheme: Scheme,
        device: &Device,
    ) -> Self {
        let words = |shape: [usize; 2]| {
            Param::uninitialized(
                ParamId::new(),
                move |device: &Device, _| {
                    Tensor::<2, Int>::zeros(shape, (device, word_type(device)))
                },
                device.clone(),
                false,
                Shape::new(shape),
            )
        };
        Self {
            codes: words([scheme.bits.words(d_input), d_output]),
            zero_points: words([groups, scheme.bits.words(d_output)]),
            tag: super::tag::tag(scheme, d_input, device),
            scheme,
            d_input,
            d_output,
            copy: RepackedCopy::default(),
        }
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Shape of the dense weight, `[d_input, d_output]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.d_input, self.d_output]
    }

    /// The codes as integers, `[d_input, d_output]`.
    pub fn unpacked_codes(&self) -> Tensor<2, Int> {
        unpack(self.codes.val(), self.scheme.bits, self.d_input)
            .expect("the words are made for this weight")
    }

    /// The zero points as integers, `[groups, d_output]`.
    pub fn unpacked_zero_points(&self) -> Tensor<2, Int> {
        unpack_columns(self.zero_points.val(), self.scheme.bits, self.d_output)
            .expect("the words are made for this weight")
    }

    /// The weight, with `scales [groups, d_output]` from the base of the parameter that this is attached to.
    ///
    /// # Errors
    ///
    /// When the shape of `scales` does not fit the codes.
    pub fn weight(&self, scales: Tensor<2>) -> Result<PackedWeight, OpError> {
        let (codes, zero_points) = (self.codes.val(), self.zero_points.val());
        let weight =
            PackedWeight::from_parts(codes, scales, zero_points, self.scheme.bits, self.d_input)?;
        Ok(if InferenceConfig::current().repack_weights {
            weight.keep_copy_in(&self.copy)
        } else {
            weight
        })
    }

    /// `x W + bias`, straight from the packed words or from their repacked copy, see
    /// [`InferenceConfig::repack_weights`].
    ///
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`
    /// - `scales`: `[groups, d_output]`, the base of the parameter that this is attached to
    /// - `bias`: `[d_output]`
    /// - output: `[.., d_output]`
    ///
    /// # Panics
    ///
    /// When the op fails, for example because the last axis of `x` is not `d_input`.
    /// [`OpError::catch`] turns this into an error.
    pub fn linear<const D: usize>(
        &self,
        x: Tensor<D>,
        scales: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        self.weight(scales)
            .and_then(|weight| weight.linear(x, bias))
            .unwrap_or_else(|error| error.raise())
    }
}

impl Reparameterization for Packed {
    const NAME: &'static str = "packed";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.dims();
        let scales: Tensor<2> = base.reshape([shape[0], shape[1]]);
        self.weight(scales)
            .and_then(|weight| weight.dequantize())
            .unwrap_or_else(|error| error.raise())
            .reshape(Shape::new([self.d_input, self.d_output]))
    }
}
