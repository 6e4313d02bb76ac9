//! Layers give the same output from repacked weights as from packed ones.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor};
use burn_eqat::kernels::OpError;
use burn_eqat::{InferenceConfig, QuantLinear, QuantLinearConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::seeded;

fn layer(scheme: &str, device: &Device) -> QuantLinear {
    let layer = QuantLinearConfig::new(192, 70).init(device);
    let scheme: Scheme = scheme.parse().unwrap();
    layer.quantize_rtn(&Weights::matrices(), scheme).unwrap()
}

fn repacked<const D: usize>(layer: &QuantLinear, x: &Tensor<D>) -> Tensor<D> {
    let config = InferenceConfig::new().with_repack_weights(true);
    config.run(|| layer.forward(x.clone()))
}

fn assert_close<const D: usize>(actual: Tensor<D>, expected: Tensor<D>) {
    let error = (actual - expected.clone()).abs().max().into_scalar::<f32>();
    let size = expected.abs().max().into_scalar::<f32>();
    assert!(error <= 1e-5 * size, "off by {error} of {size}");
}

#[test]
fn repacked_weights_make_the_same_product() {
    let device = Device::flex();
    let _random = seeded(3);
    for scheme in ["w2g64", "w3g32", "w2g-1", "w4g64", "w8g64"] {
        let layer = layer(scheme, &device);
        for rows in [1, 2, 5] {
            let x = Tensor::<3>::random([1, rows, 192], Distribution::Default, &device);
            assert_close(repacked(&layer, &x), layer.forward(x));
        }
    }
}

/// Doubles the parameters that train.
struct Double;

impl ModuleMapper for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value * 2)
    }
}

#[test]
fn a_copy_is_never_older_than_its_weight() {
    let device = Device::flex();
    let _random = seeded(5);
    let layer = layer("w2g64", &device);
    let x = Tensor::<2>::random([1, 192], Distribution::Default, &device);
    let before = repacked(&layer, &x);
    let doubled = layer.clone().map(&mut Double);
    assert_close(repacked(&doubled, &x), before.clone() * 2);
    assert_close(repacked(&layer.map(&mut Double), &x), before * 2);
}

#[test]
fn gradients_flow_past_a_copy() {
    let device = Device::flex();
    let _random = seeded(7);
    let layer = layer("w2g64", &device);
    let x = Tensor::<2>::random([1, 192], Distribution::Default, &device);
    repacked(&layer, &x);
    let layer = layer.train();
    let y = repacked(&layer, &Tensor::from_inner(x));
    let grads = y.sum().backward();
    assert!(layer.weight.base().grad(&grads).is_some());
}

#[test]
fn a_refused_op_in_a_layer_is_an_error_under_catch() {
    let device = Device::flex();
    let layer = layer("w2g64", &device);
    let narrow = Tensor::<2>::ones([1, 64], &device);
    let error = OpError::catch(|| layer.forward(narrow)).unwrap_err();
    assert!(error.to_string().contains("64"), "{error}");
}
