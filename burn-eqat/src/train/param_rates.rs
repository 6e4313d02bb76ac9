//! The learning rate of each parameter of fake-quantized weights.

use super::Rate;
use super::trained::is_of_quantizer;
use crate::FakeQuant;
use crate::module::fake_quantized;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, Reparameterization};
use burn::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// What is not measured in step sizes moves by this part of what a rate in step sizes would be for the whole range.
const OTHERS: f64 = 0.1;

/// The sizes that rates in step sizes are multiples of, by parameter.
#[derive(Clone, Debug, Default)]
pub(super) struct ParamRates {
    sizes: Vec<Size>,
}

#[derive(Clone, Debug)]
struct Size {
    group: ParamGroup,
    /// Whether the rate is that of the quantizer.
    quantizer: bool,
    size: f64,
}

impl ParamRates {
    /// Of a module as it is now, for those of its parameters whose paths are chosen.
    pub fn of<M: Module>(module: &M, chosen: &dyn Fn(&str) -> bool) -> Self {
        let mut weights = fake_quantized(module);
        weights.retain(|weight| chosen(&of_quantizer(&weight.path, "scales")));
        let mut sizes = Sizes {
            chosen,
            weights: weights.iter().map(|weight| weight.path.as_str()).collect(),
            path: Vec::new(),
            means: HashMap::new(),
            others: Vec::new(),
        };
        module.visit(&mut sizes);
        let Sizes { means, others, .. } = sizes;
        let ranges = weights.iter().map(|weight| {
            let range = f64::from(weight.scheme.bits.max_code());
            (range, weight.weights as f64)
        });
        // The mean over all numbers, where weights differ.
        let (sum, count) = ranges.fold((0.0, 0.0), |(sum, count), (range, weights)| {
            (sum + range * weights, count + weights)
        });
        let range = if count > 0.0 { sum / count } else { 1.0 };
        let mut sizes = Vec::new();
        let mut add = |path: String, quantizer, size| {
            sizes.push(Size {
                group: ParamGroup::from_path(path),
                quantizer,
                size,
            });
        };
        for weight in &weights {
            let (path, mean) = (&weight.path, means[&weight.path]);
            let codes = OTHERS / f64::from(weight.scheme.bits.max_code());
            add(path.clone(), false, mean);
            add(of_quantizer(path, "scales"), true, mean);
            add(of_quantizer(path, "zero_points"), true, codes);
        }
        for (path, size) in others {
            add(path, false, size * OTHERS / range);
        }
        Self { sizes }
    }

    /// The rates of all parameters where those of the quantizer and of the weights are these.
    pub fn at(&self, quantizer: Rate, weights: Rate) -> ModuleLearningRate {
        let of_quantizer = ParamGroup::from_predicate(FakeQuant::NAME);
        let mut rates =
            ModuleLrScheduler::new(weights.number()).with_group(of_quantizer, quantizer.number());
        for size in &self.sizes {
            let rate = if size.quantizer { quantizer } else { weights };
            if let Rate::InSteps(_) = rate {
                rates = rates.with_group(size.group.clone(), rate.of(size.size));
            }
        }
        rates.step()
    }
}

/// The path of what quantizes the weight at a path.
fn of_quantizer(weight: &str, field: &str) -> String {
    format!("{weight}.{}.{field}", FakeQuant::NAME)
}

/// Reads means of step sizes, and root mean squares of what is not quantized.
struct Sizes<'a> {
    chosen: &'a dyn Fn(&str) -> bool,
    /// The paths of the fake-quantized weights, which go by their step sizes.
    weights: HashSet<&'a str>,
    path: Vec<String>,
    /// By the path of the weight.
    means: HashMap<String, f64>,
    others: Vec<(String, f64)>,
}

impl ModuleVisitor for Sizes<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if !(self.chosen)(&path) {
            return;
        }
        let value = || param.base().detach();
        if let Some(weight) = path.strip_suffix(&format!(".{}.scales", FakeQuant::NAME)) {
            let mean = value().mean().into_scalar();
            self.means.insert(weight.to_string(), mean);
        } else if !is_of_quantizer(&path) && !self.weights.contains(path.as_str()) {
            let square: f64 = value().square().mean().into_scalar();
            self.others.push((path, square.sqrt()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quantize, Weights};
    use burn::module::ParamId;
    use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Block {
        norm: LayerNorm,
        first: Linear,
        second: Linear,
    }

    fn block() -> Block {
        let device = Device::flex();
        let linear = |value: f64| {
            let mut linear = LinearConfig::new(4, 2).init(&device);
            // A range of three times the value: the step size at two bits.
            let weight = Tensor::<1>::from_floats([-1.0, 0.0, 2.0, 1.0], &device);
            let weight = weight.reshape([4, 1]).repeat_dim(1, 2) * value;
            linear.weight = Param::from_tensor(weight);
            linear
        };
        let mut norm = LayerNormConfig::new(4).init(&device);
        norm.gamma = Param::from_tensor(Tensor::full([4], 3.0, &device));
        let block = Block {
            norm,
            first: linear(0.5),
            second: linear(0.1),
        };
        let schemes = crate::Schemes::new("w2g4".parse().unwrap());
        block
            .attach_fake_quant(&Weights::linears(), schemes)
            .unwrap()
    }

    #[test]
    fn rates_in_steps_are_in_proportion() {
        let rates = ParamRates::of(&block(), &|path| !path.ends_with("bias"));
        let rates = rates.at(Rate::InSteps(0.2), Rate::InSteps(0.1));
        for (path, expected) in [
            ("first.weight", 0.05),
            ("first.weight.fake_quant.scales", 0.1),
            ("first.weight.fake_quant.zero_points", 0.2 * 0.1 / 3.0),
            ("second.weight", 0.01),
            ("second.weight.fake_quant.scales", 0.02),
            ("norm.gamma", 0.1 * 3.0 * 0.1 / 3.0),
        ] {
            let rate = rates.lr_from_param(ParamId::new(), Some(path));
            assert!((rate - expected).abs() < 1e-7, "{path}: {rate} {expected}");
        }
    }

    #[test]
    fn absolute_rates_are_the_same_for_all() {
        let rates = ParamRates::of(&block(), &|_| true);
        let rates = rates.at(0.2.into(), Rate::InSteps(0.1));
        let rate = |path| rates.lr_from_param(ParamId::new(), Some(path));
        assert_eq!(rate("first.weight.fake_quant.scales"), 0.2);
        assert_eq!(rate("second.weight.fake_quant.zero_points"), 0.2);
        assert!((rate("second.weight") - 0.01).abs() < 1e-7);
    }
}
