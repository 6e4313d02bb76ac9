//! Layers that read the same input, as one.

use super::QuantLinear;
use crate::Packed;
use crate::kernels::PackedWeight;
use burn::tensor::Tensor;

/// Packed layers that read the same input, run as one: one launch in place of `N`, and what is done to the input is done once. For inference.
///
/// A token's products with small layers take less time than their launches. The projections to queries, keys and values are such layers, and
/// the gate and the values of a feed-forward are.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat::{MergedLinears, QuantLinearConfig, Quantize, Scheme, Weights};
///
/// let device = Device::flex();
/// let scheme: Scheme = "w2g32".parse()?;
/// let layer = |d_output| {
///     let layer = QuantLinearConfig::new(64, d_output).init(&device);
///     layer.quantize_rtn(&Weights::linears(), scheme)
/// };
/// let (gate, up) = (layer(48)?, layer(40)?);
/// let merged = MergedLinears::new([&gate, &up]).expect("both are packed by one scheme");
///
/// let x = Tensor::<3>::random([1, 5, 64], Distribution::Default, &device);
/// let [y, z] = merged.forward(x.clone());
/// assert_eq!((y.dims(), z.dims()), ([1, 5, 48], [1, 5, 40]));
/// assert!((z - up.forward(x)).abs().max().into_scalar::<f32>() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MergedLinears<const N: usize> {
    packed: Packed,
    /// `[groups, sum of the widths]`.
    scales: Tensor<2>,
    /// `[sum of the widths]`.
    bias: Option<Tensor<1>>,
    /// `d_output` of each layer.
    widths: [usize; N],
}

impl<const N: usize> MergedLinears<N> {
    /// Copies the words of the layers to where they lie side by side. `None` unless all are packed by the same scheme, have as
    /// many inputs, step sizes of one type, and all or none of them a bias.
    pub fn new(layers: [&QuantLinear; N]) -> Option<Self> {
        let parts = layers.iter().map(|layer| {
            let packed = layer.weight.reparameterization::<Packed>()?;
            Some((packed, layer.weight.base()))
        });
        let parts = parts.collect::<Option<Vec<_>>>()?;
        let (first, scales) = parts.first()?;
        let (scheme, dtype) = (first.scheme(), scales.dtype());
        let alike = |(packed, scales): &(&Packed, Tensor<2>)| {
            packed.scheme() == scheme
                && packed.shape()[0] == first.shape()[0]
                && scales.dtype() == dtype
        };
        let biased = |layer: &&QuantLinear| layer.bias.is_some();
        if !parts.iter().all(alike) || layers.iter().any(biased) != layers.iter().all(biased) {
            return None;
        }
        let weights: Result<Vec<_>, _> = (parts.iter())
            .map(|(packed, scales)| packed.weight(scales.clone()))
            .collect();
        let weight = weights
            .and_then(|weights| PackedWeight::cat(&weights))
            .unwrap_or_else(|error| error.raise());
        let biases = layers.iter().filter_map(|layer| layer.bias.as_ref());
        let biases: Vec<_> = biases.map(|bias| bias.val()).collect();
        Some(Self {
            scales: weight.scales.clone(),
            packed: Packed::from_weight(weight, scheme),
            bias: (!biases.is_empty()).then(|| Tensor::cat(biases, 0)),
            widths: layers.map(|layer| layer.shape()[1]),
        })
    }

    /// Applies each layer to the last axis of the input.
    ///
    /// # Shapes
    ///
    /// - input: `[..., d_input]`
    /// - outputs: `[..., d_output]` of each layer, in the type of the input
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `input` is not `d_input`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> [Tensor<D>; N] {
        let y = (self.packed).linear(input, self.scales.clone(), self.bias.clone());
        let parts = y.split_with_sizes(self.widths.to_vec(), D - 1);
        parts.try_into().expect("a part of each layer")
    }
}
