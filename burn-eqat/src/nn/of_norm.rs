//! Layers that read a norm's output.

use super::QuantLinear;
use crate::Packed;
use crate::kernels::transformer::rms_norm;
use burn::nn::RmsNorm;
use burn::tensor::Tensor;

/// Layers that read the output of a norm, as `layer.forward(norm.forward(x))` of each, with less work in Block-AP.
///
/// In Block-AP nothing is trained before a block's first norm, so all that the gradient by the norm's output is for is that of
/// `gamma`: a product as large as the layer itself. The same layers are `x' (gamma W)` of the normed input `x'` without its
/// gain. Then `gamma` gets its gradient from that of the weight, and no such product is made. That is done where `gamma`
/// has a gradient, `x` has none, and no layer is packed.
///
/// ```
/// use burn::nn::RmsNormConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat::{QuantLinearConfig, linears_of_norm};
///
/// let device = Device::flex();
/// let norm = RmsNormConfig::new(64).init(&device);
/// let [q, k] = [64, 16].map(|d_output| QuantLinearConfig::new(64, d_output).init(&device));
///
/// let x = Tensor::<3>::random([1, 5, 64], Distribution::Default, &device);
/// let [_, y] = linears_of_norm(&norm, [&q, &k], x.clone());
/// let same = k.forward(norm.forward(x));
/// assert!((y - same).abs().max().into_scalar::<f32>() < 1e-4);
/// ```
///
/// # Shapes
///
/// - `x`: `[.., d_input]`, which all layers and the norm have
/// - output: `[.., d_output]` of each layer, in the type of `x`
///
/// # Panics
///
/// Panics if the sizes do not fit together.
pub fn linears_of_norm<const N: usize, const D: usize>(
    norm: &RmsNorm,
    layers: [&QuantLinear; N],
    x: Tensor<D>,
) -> [Tensor<D>; N] {
    let gamma = norm.gamma.val();
    let is_packed = |layer: &&QuantLinear| layer.weight.reparameterization::<Packed>().is_some();
    let in_weights = gamma.is_tracked() && !x.is_tracked() && !layers.iter().any(is_packed);
    let gain = match in_weights {
        true => gamma.ones_like().detach(),
        false => gamma.clone(),
    };
    let x = rms_norm(x, gain, norm.epsilon).unwrap_or_else(|error| error.raise());
    layers.map(|layer| match in_weights {
        true => layer.forward_by(
            x.clone(),
            layer.weight.val() * gamma.clone().unsqueeze_dim(1),
        ),
        false => layer.forward(x.clone()),
    })
}
