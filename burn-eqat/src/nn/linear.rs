use crate::Packed;
use crate::kernels::transformer::linear;
use burn::config::Config;
use burn::module::{Content, DisplaySettings, Initializer, Module, ModuleDisplay, Param};
use burn::nn::{Linear as DenseLinear, LinearConfig};
use burn::tensor::{Device, Tensor, assert_shape};

/// Configuration to create a [`QuantLinear`](Linear) layer using the [init function](QuantLinearConfig::init).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::{QuantLinear, QuantLinearConfig};
///
/// let device = Device::flex();
/// let layer: QuantLinear = QuantLinearConfig::new(64, 16).with_bias(false).init(&device);
/// let y = layer.forward(Tensor::<3>::ones([2, 5, 64], &device));
/// assert_eq!(y.dims(), [2, 5, 16]);
/// ```
#[derive(Config, Debug)]
pub struct QuantLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The initializer of the weight and the bias.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/f64::sqrt(3.0), fan_out_only:false}")]
    pub initializer: Initializer,
}

/// A linear layer, `O = I W + b`, that runs from a packed weight.
///
/// It is a drop-in replacement for [`nn::Linear`](DenseLinear): the same fields, the same record paths, and the same
/// values while the weight is dense. Once the weight is [packed](crate::Quantize::pack), forward and backward run from
/// the packed words through [`PackedWeight::linear`](burn_eqat_kernels::PackedWeight::linear), and no dense weight is
/// kept in between. (A backend's fused body makes no dense weight at all; the portable one makes it for the moment of a
/// matmul. A plain `nn::Linear` works with a packed weight too, but keeps the dense weight for the backward pass and
/// computes its gradient.)
///
/// The type of the input decides that of the product: weight and bias are cast to it, and their gradients come back in the
/// types of the parameters. So with f32 parameters and an input in half precision, training has f32 masters
/// ([`ComputeType`](crate::ComputeType)). A packed weight's step sizes are never rounded. (A plain `nn::Linear` computes in the
/// type of its weight, and needs an input of that type, whatever is attached to the weight.)
///
/// Visitors see it under the name `Linear`, so code for Burn's own layer handles this one too:
/// `PyTorchToBurnAdapter` and `PytorchStore` transpose its weight, and `HalfPrecisionAdapter` halves its precision.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::{QuantLinear, Quantize, Scheme, Weights};
///
/// let device = Device::flex();
/// let scheme: Scheme = "w4g32".parse()?;
/// let layer: QuantLinear = LinearConfig::new(64, 16).init(&device).into();
/// let packed = layer.quantize_rtn(&Weights::linears(), scheme)?;
/// assert_eq!(packed.shape(), [64, 16]);
///
/// let x = Tensor::<2>::ones([3, 64], &device);
/// let y = packed.forward(x.clone());
/// let same = packed.unpack().forward(x);
/// assert!((y - same).abs().max().into_scalar::<f32>() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Linear {
    /// The weight: `[d_input, d_output]`, or the step sizes `[groups, d_output]` if it is packed.
    pub weight: Param<Tensor<2>>,
    /// The bias, `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl QuantLinearConfig {
    /// Initialize a new [`QuantLinear`](Linear), with a dense weight.
    pub fn init(&self, device: &Device) -> Linear {
        LinearConfig::new(self.d_input, self.d_output)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device)
            .into()
    }
}

impl From<DenseLinear> for Linear {
    fn from(linear: DenseLinear) -> Self {
        Self {
            weight: linear.weight,
            bias: linear.bias,
        }
    }
}

impl Linear {
    /// Applies the layer to the last axis of the input.
    ///
    /// # Shapes
    ///
    /// - input: `[..., d_input]`
    /// - output: `[..., d_output]`, in the type of the input
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `input` is not `d_input`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        if let Some(packed) = self.weight.reparameterization::<Packed>() {
            return packed.linear(input, self.weight.base(), self.bias());
        }
        self.forward_by(input, self.weight.val())
    }

    /// [`forward`](Self::forward) by a dense weight in the place of the layer's.
    pub(super) fn forward_by<const D: usize>(
        &self,
        input: Tensor<D>,
        weight: Tensor<2>,
    ) -> Tensor<D> {
        let [d_input, _] = weight.dims();
        assert_shape!(input, [.., d_input]);
        linear(input, weight, self.bias()).expect("the input was found to fit")
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(|bias| bias.val())
    }

    /// The shape of the dense weight, `[d_input, d_output]`.
    pub fn shape(&self) -> [usize; 2] {
        match self.weight.reparameterization::<Packed>() {
            Some(packed) => packed.shape(),
            None => self.weight.lazy_shape().dims(),
        }
    }
}

impl ModuleDisplay for Linear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_input, d_output] = self.shape();
        let content = content
            .set_top_level_type("QuantLinear")
            .add("d_input", &d_input)
            .add("d_output", &d_output)
            .add("bias", &self.bias.is_some());
        match self.weight.reparameterization::<Packed>() {
            Some(packed) => content
                .add("scheme", &packed.scheme().to_string())
                .optional(),
            None => content.optional(),
        }
    }
}
