//! Adapters of any module: what they fit, and what they bring besides step sizes.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_eqat::adapter::{Adapted, Adapter, AdapterError, Difference, PackedBase};
use burn_eqat::{QuantLinear, QuantLinearConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::{seeded, values};

/// A plain layer and one of ours, with a norm between them.
#[derive(Module, Debug)]
pub(super) struct Small {
    up: Linear,
    norm: RmsNorm,
    down: QuantLinear,
}

impl Small {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down.forward(self.norm.forward(self.up.forward(x)))
    }

    fn outputs(&self) -> Vec<f32> {
        let x: Tensor<1> = Tensor::arange(0..64, &Device::flex()).float();
        values(self.forward((x - 30).reshape([2, 32])))
    }
}

fn dense(seed: u64) -> Small {
    let device = Device::flex();
    let model = Small {
        up: LinearConfig::new(32, 48).init(&device),
        norm: RmsNormConfig::new(48).init(&device),
        down: QuantLinearConfig::new(48, 5).init(&device),
    };
    model.map(&mut Numbers(seed))
}

/// Gives all parameters numbers that follow from a seed. Models that are to be the same must not depend on the generator of random numbers,
/// which tests that do not reserve it use, too.
struct Numbers(u64);

impl ModuleMapper for Numbers {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| {
            let (dims, device) = (value.dims(), value.device());
            let count = dims.iter().product::<usize>() as i64;
            let at: Tensor<1> = Tensor::arange(0..count, &device).float();
            let wild = (at * 12.9898 + self.0 as f64 * 78.233).sin() * 43758.547;
            (wild.clone() - wild.floor()).reshape(dims) - 0.5
        })
    }
}

pub(super) fn packed(seed: u64, scheme: &str) -> Small {
    let scheme: Scheme = scheme.parse().unwrap();
    dense(seed)
        .quantize_rtn(&Weights::linears(), scheme)
        .unwrap()
}

/// Changes the floats of some parameters at random, as training does.
struct Trained<'a>(&'a dyn Fn(&str) -> bool, Vec<String>);

impl ModuleMapper for Trained<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.1.push(name.to_string());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.1.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.0(&self.1.join(".")) {
            return param;
        }
        param.map(|value| {
            let uniform = Distribution::Uniform(0.5, 1.5);
            let factor = Tensor::random(value.dims(), uniform, &value.device());
            value * factor
        })
    }
}

/// With other values at some paths.
pub(super) fn trained(model: &Small, seed: u64, paths: &[&str]) -> Small {
    let _random = seeded(seed);
    let inside = |path: &str| paths.contains(&path);
    model.clone().map(&mut Trained(&inside, Vec::new()))
}

/// The paths of all step sizes.
pub(super) const SCALES: [&str; 2] = ["up.weight", "down.weight"];

#[test]
fn step_sizes_that_are_not_rounded_are_kept_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let base = packed(1, "w3g16");
    let exact = trained(&base, 2, &SCALES);
    let rounded = exact.clone().round_scales();
    let mut sizes = Vec::new();
    for (name, model) in [("exact", &exact), ("rounded", &rounded)] {
        let path = dir.path().join(name);
        Adapter::of(model).unwrap().save(&path).unwrap();
        sizes.push(std::fs::metadata(&path).unwrap().len());
        let applied = Adapter::load(&path).unwrap().apply(base.clone()).unwrap();
        assert_eq!(applied.outputs(), model.outputs());
        // They still train.
        assert!(applied.train().up.weight.is_require_grad());
    }
    // 2 groups of 48 and 3 of 5.
    assert_eq!(sizes[0] - sizes[1], 2 * (2 * 48 + 3 * 5));
    assert_ne!(exact.outputs(), rounded.outputs());
    assert_ne!(exact.outputs(), base.outputs());
}

#[test]
fn norms_that_were_trained_come_along_and_go_again() {
    let dir = tempfile::tempdir().unwrap();
    let base = packed(1, "w4g16");
    let scales = trained(&base, 2, &SCALES);
    let both = trained(
        &base,
        3,
        &["up.weight", "down.weight", "norm.gamma", "up.bias"],
    );
    let save = |model: &Small, name: &str| {
        let path = dir.path().join(name);
        Adapter::between(&base, model).unwrap().save(&path).unwrap();
        Adapter::load(&path).unwrap()
    };
    let (with_norms, without) = (save(&both, "both"), save(&scales, "scales"));
    assert_eq!(without.parameters().len(), 0);
    let parameters: Vec<&str> = with_norms.parameters().collect();
    assert_eq!(parameters, ["norm.gamma", "up.bias"]);
    let mut model = Adapted::new(base.clone()).unwrap();
    for (adapter, expected) in [
        (&with_norms, &both),
        (&without, &scales),
        (&with_norms, &both),
    ] {
        model.switch(adapter).unwrap();
        assert_eq!(model.model().outputs(), expected.outputs());
    }
    model.reset();
    assert_eq!(model.model().outputs(), base.outputs());
}

#[test]
fn another_base_is_refused_by_name() {
    let base = packed(1, "w2g16");
    let adapter = Adapter::of(&trained(&base, 2, &SCALES)).unwrap();
    let refused = |model: Small| {
        let one = adapter.apply(model.clone()).unwrap_err();
        let mut adapted = Adapted::new(model.clone()).unwrap();
        let other = adapted.switch(&adapter).unwrap_err();
        assert_eq!(one.to_string(), other.to_string());
        assert_eq!(adapted.model().outputs(), model.outputs());
        match one {
            AdapterError::WrongBase { difference, .. } => difference,
            other => panic!("{other}"),
        }
    };
    // Other step sizes are no other base.
    adapter.apply(trained(&base, 3, &SCALES)).unwrap();
    assert_eq!(
        adapter.base(),
        &PackedBase::of(&trained(&base, 3, &SCALES)).unwrap()
    );

    let found = refused(packed(9, "w2g16"));
    assert!(
        matches!(found.difference, Difference::Codes { .. }),
        "{found}"
    );
    assert_eq!((found.path.as_str(), found.others), ("down.weight", 1));
    let found = refused(packed(1, "w4g16"));
    assert_eq!(
        found.to_string(),
        "down.weight is packed in w4g16, expected w2g16; 1 more of its weights differ"
    );
    let only = |pattern: &str| {
        let weights = Weights::matching(pattern).unwrap();
        let scheme: Scheme = "w2g16".parse().unwrap();
        dense(1).quantize_rtn(&weights, scheme).unwrap()
    };
    let found = refused(only("down"));
    assert_eq!(found.to_string(), "up.weight is not packed in the model");
    // The other way round.
    let half = Adapter::of(&only("down")).unwrap();
    let error = half.apply(base.clone()).unwrap_err().to_string();
    assert!(
        error.contains("up.weight is packed in the model"),
        "{error}"
    );
    let error = Adapter::between(&packed(9, "w2g16"), &base).unwrap_err();
    assert!(matches!(error, AdapterError::WrongBase { .. }), "{error}");
}

#[test]
fn a_model_that_is_not_packed_has_no_adapter() {
    let message = |model: &Small| Adapter::of(model).unwrap_err().to_string();
    assert!(message(&dense(1)).contains("no packed weights"));
    let scheme: Scheme = "w2g16".parse().unwrap();
    let training = dense(1)
        .attach_fake_quant(&Weights::linears(), scheme)
        .unwrap();
    assert!(message(&training).contains("up.weight: is fake-quantized"));
    assert!(Adapted::new(dense(1)).is_err());
}

#[test]
fn a_parameter_that_the_model_has_not_is_named() {
    let base = packed(1, "w4g16");
    let tuned = trained(&base, 2, &["up.bias"]);
    let adapter = Adapter::between(&base, &tuned).unwrap();
    let mut other = base.clone();
    other.up.bias = None;
    let error = adapter.apply(other).unwrap_err().to_string();
    assert_eq!(error, "parameter up.bias: the model has no such parameter");
    let mut other = base;
    other.up.bias = Some(Param::from_tensor(Tensor::ones([3], &Device::flex())));
    let error = adapter.apply(other).unwrap_err().to_string();
    assert_eq!(error, "parameter up.bias: has shape [48], expected [3]");
}
