//! Layers of a norm's output, whose gain may be in their weights.

use burn::module::Module;
use burn::nn::{RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Distribution, FloatDType, Tensor, s};
use burn_eqat::{QuantLinear, QuantLinearConfig, Quantize, Scheme, Weights, linears_of_norm};
use burn_eqat_tests::{assert_near, seeded, values};

/// A norm and two layers that read its output.
#[derive(Module, Debug)]
struct Normed {
    norm: RmsNorm,
    first: QuantLinear,
    second: QuantLinear,
}

/// The results, and the gradients of the gain, of the first weight, of the second bias and, if it is tracked, of the input.
fn run(
    model: &Normed,
    x: &Tensor<3>,
    tracked: bool,
    forward: impl Fn(&Normed, Tensor<3>) -> [Tensor<3>; 2],
) -> Vec<(&'static str, Vec<f32>)> {
    let x = Tensor::from_inner(x.clone());
    let x = if tracked { x.require_grad() } else { x };
    let [a, b] = forward(model, x.clone());
    // Slopes that differ from number to number.
    let slopes = |y: &Tensor<3>| y.clone().detach().cos();
    let loss = (a.clone() * slopes(&a)).sum() + (b.clone() * slopes(&b)).sum();
    let grads = loss.backward();
    let weight = (model.first.weight.base().grad(&grads)).expect("the weight is trained");
    let bias = model.second.bias.as_ref().unwrap().val();
    let mut found = vec![
        ("the first result", values(a.inner())),
        ("the second result", values(b.inner())),
        (
            "the gain's",
            values(model.norm.gamma.val().grad(&grads).unwrap()),
        ),
        ("the weight's", values(weight)),
        ("the bias's", values(bias.grad(&grads).unwrap())),
    ];
    assert_eq!(x.grad(&grads).is_some(), tracked);
    found.extend(x.grad(&grads).map(|grad| ("the input's", values(grad))));
    found
}

#[test]
fn layers_of_a_norm_are_those_of_its_output() {
    let (_random, device) = (seeded(14), Device::flex());
    let uniform = Distribution::Uniform(-1.0, 1.0);
    let mut norm = RmsNormConfig::new(48).init(&device);
    // A gain of zero, too, whose gradient is not.
    let gain = Tensor::<1>::random([48], uniform, &device);
    let gain = gain.slice_assign(s![0..1], Tensor::zeros([1], &device));
    norm.gamma = norm.gamma.map(|_| gain);
    let layer = |d_output| QuantLinearConfig::new(48, d_output).init(&device);
    let dense = Normed {
        norm,
        first: layer(24),
        second: layer(7),
    };
    let x = Tensor::<3>::random([2, 9, 48], uniform, &device);

    let (all, scheme) = (
        Weights::matching("weight$").unwrap(),
        "w3g16".parse::<Scheme>().unwrap(),
    );
    let fake = dense.clone().attach_fake_quant(&all, scheme).unwrap();
    let packed = dense.clone().quantize_rtn(&all, scheme).unwrap();
    for (kind, model) in [("dense", dense), ("fake", fake), ("packed", packed)] {
        let model = model.train();
        for tracked in [false, true] {
            for (x, tolerance) in [(x.clone(), 1e-5), (x.clone().cast(FloatDType::BF16), 2e-2)] {
                let found = run(&model, &x, tracked, |model, x| {
                    linears_of_norm(&model.norm, [&model.first, &model.second], x)
                });
                let expected = run(&model, &x.cast(FloatDType::F32), tracked, |model, x| {
                    let x = model.norm.forward(x);
                    [model.first.forward(x.clone()), model.second.forward(x)]
                });
                for ((what, found), (_, expected)) in found.iter().zip(&expected) {
                    let what = format!("{kind}, input tracked {tracked}: {what}");
                    assert_near(&what, found, expected, tolerance);
                }
            }
        }
    }
}
