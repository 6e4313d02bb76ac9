use burn::module::Initializer;
use burn_eqat::{MergedLinears, QuantLinear, QuantLinearConfig};

/// The layers as one, if they are packed alike; zeros are in their place then, lazily, so their memory is free.
pub(super) fn merged<const N: usize>(layers: [&mut QuantLinear; N]) -> Option<MergedLinears<N>> {
    let merged = MergedLinears::new(layers.each_ref().map(|layer| &**layer))?;
    for layer in layers {
        let [d_input, d_output] = layer.shape();
        let device = layer.weight.base().device();
        *layer = QuantLinearConfig::new(d_input, d_output)
            .with_bias(layer.bias.is_some())
            .with_initializer(Initializer::Zeros)
            .init(&device);
    }
    Some(merged)
}
