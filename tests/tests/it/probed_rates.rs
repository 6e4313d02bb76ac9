//! Learning rates that Block-AP finds by trying some on the first block.

use super::distillation::{loader, original};
use burn::module::Module;
use burn::tensor::Device;
use burn_eqat::train::{BlockApConfig, LearningRates, Pass, Rate, TrainError, TrainEvent};
use burn_eqat::{EfficientQatConfig, Method, RunDir, Stage, StageName};
use burn_eqat_tests::seeded;
use llama::model::Llama;

/// What a run said of its rates.
#[derive(Default)]
struct Heard {
    rates: Option<LearningRates>,
    tried: Vec<(f64, f64)>,
    passes: usize,
    blocks: usize,
    /// Stop behind so many blocks.
    stop_at: Option<usize>,
}

impl Heard {
    fn event(&mut self, event: TrainEvent) -> Result<(), TrainError> {
        match event {
            TrainEvent::PhaseStart { rates, .. } => self.rates = Some(rates),
            TrainEvent::Rates { rates, tried } => {
                (self.rates, self.tried) = (Some(rates), tried);
            }
            TrainEvent::Pass {
                pass: Pass::Rates,
                block,
                ..
            } => {
                assert_eq!(block, Some(0));
                self.passes += 1;
            }
            TrainEvent::BlockEnd { .. } => {
                self.blocks += 1;
                if Some(self.blocks) == self.stop_at {
                    return Err(TrainError::Interrupted);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn config(rate: f64) -> BlockApConfig {
    BlockApConfig::new("w2g16".parse().unwrap(), Llama::quantized_weights())
        .with_quant_learning_rate(Some(Rate::InSteps(2.0 * rate)))
        .with_weight_learning_rate(Some(Rate::InSteps(rate)))
        .with_probe_rates(true)
}

fn run(
    config: &BlockApConfig,
    run: Option<RunDir>,
    heard: &mut Heard,
) -> Result<Llama, TrainError> {
    let device = Device::flex();
    let _random = seeded(61);
    let mut phase = config.init();
    if let Some(run) = run {
        phase = phase.with_run_dir(run);
    }
    let (train, valid) = (loader(32, &device), loader(6, &device));
    phase.run(original(&device), train, valid, &mut |event| {
        heard.event(event)
    })
}

/// The weights of all blocks, packed.
fn numbers(model: &Llama) -> Vec<Vec<u8>> {
    struct Bytes(Vec<Vec<u8>>);
    impl burn::module::ModuleVisitor for Bytes {
        fn visit_float<const D: usize>(
            &mut self,
            param: &burn::module::Param<burn::tensor::Tensor<D>>,
        ) {
            self.0.push(param.base().into_data().as_bytes().to_vec());
        }
        fn visit_int<const D: usize>(
            &mut self,
            param: &burn::module::Param<burn::tensor::Tensor<D, burn::tensor::Int>>,
        ) {
            self.0.push(param.val().into_data().as_bytes().to_vec());
        }
    }
    let mut bytes = Bytes(Vec::new());
    model.visit(&mut bytes);
    bytes.0
}

#[test]
fn rates_that_are_too_low_are_raised_and_too_high_lowered() {
    // From twice a step size on, all rates are as bad.
    for (rate, raised) in [(1e-4, true), (1.0, false)] {
        let mut heard = Heard::default();
        run(&config(rate), None, &mut heard).unwrap();
        let Some(Rate::InSteps(found)) = heard.rates.map(|rates| rates.weights) else {
            panic!("{:?}", heard.rates);
        };
        println!("{rate}: {found}, {:?}", heard.tried);
        assert!(if raised {
            found >= 4.0 * rate
        } else {
            found <= rate / 4.0
        });
        // Both rates keep their ratio.
        let quantizer = heard.rates.map(|rates| rates.quantizer);
        assert_eq!(quantizer, Some(Rate::InSteps(2.0 * found)));
        let losses: Vec<f64> = heard.tried.iter().map(|(_, loss)| *loss).collect();
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let taken = heard
            .tried
            .iter()
            .find(|(factor, _)| factor * rate == found);
        assert_eq!(taken.unwrap().1, least);
        // 32 steps of two epochs, and three batches of validation, for each.
        assert_eq!(heard.passes, losses.len() * (32 + 3));
    }
}

#[test]
fn a_run_that_goes_on_does_not_try_again() {
    let (config, dir) = (config(1e-3), tempfile::tempdir().unwrap());
    let mut all = Heard::default();
    let whole = run(&config, None, &mut all).unwrap();
    let directory = RunDir::create(&dir.path().join("run")).unwrap();
    let mut first = Heard {
        stop_at: Some(1),
        ..Heard::default()
    };
    let stopped = run(&config, Some(directory.clone()), &mut first);
    assert!(matches!(stopped, Err(TrainError::Interrupted)));
    let mut second = Heard::default();
    let resumed = run(&config, Some(directory.clone()), &mut second).unwrap();
    assert_eq!(first.tried, all.tried);
    assert!(!first.tried.is_empty() && second.tried.is_empty());
    assert_eq!(second.passes, 0);
    assert_eq!(second.rates, all.rates);
    // Nor does one that is over.
    let mut third = Heard::default();
    let again = run(&config, Some(directory), &mut third).unwrap();
    assert_eq!(third.rates, all.rates);
    assert_eq!(numbers(&again), numbers(&whole));
    assert_eq!(numbers(&resumed), numbers(&whole));
    // Rates that were found matter.
    let plain = run(&config.with_probe_rates(false), None, &mut Heard::default()).unwrap();
    assert_ne!(numbers(&plain), numbers(&whole));
}

#[test]
fn the_recipe_tries_where_no_rate_is_given() {
    let device = Device::flex();
    let tries = |config: EfficientQatConfig, valid: i32| {
        let (_random, mut heard, mut told) = (seeded(62), Heard::default(), None);
        let data = (loader(8, &device), loader(valid, &device));
        struct Watch<'a>(&'a mut Heard, &'a mut Option<LearningRates>);
        impl burn_eqat::Observer<Llama> for Watch<'_> {
            fn stage(&mut self, stage: &Stage<'_, Llama>) -> Result<(), TrainError> {
                if stage.name == StageName::BlockAp {
                    *self.1 = stage.rates;
                }
                Ok(())
            }
            fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
                self.0.event(event.clone())
            }
        }
        let mut watch = Watch(&mut heard, &mut told);
        let recipe = config.with_method(Method::BlockAp).with_epochs(1).init();
        recipe.run(original(&device), data, &mut watch).unwrap();
        // The stage has those that were found.
        assert_eq!(told, heard.rates);
        heard.tried.len()
    };
    let config = || EfficientQatConfig::new("w2g16".parse().unwrap(), Llama::quantized_weights());
    assert!(tries(config(), 2) >= 3);
    assert_eq!(tries(config(), 0), 0);
    let given = || config().with_quant_learning_rate(Some(1e-3.into()));
    assert_eq!(tries(given(), 2), 0);
    assert!(tries(given().with_probe_rates(Some(true)), 2) >= 3);
    assert_eq!(tries(config().with_probe_rates(Some(false)), 2), 0);
}

#[test]
fn it_needs_validation_data() {
    let device = Device::flex();
    let phase = config(1e-3).init();
    let (train, none) = (loader(4, &device), loader(0, &device));
    let error = phase.run(original(&device), train, none, &mut |_| Ok(()));
    assert_eq!(
        error.unwrap_err().to_string(),
        "probe_rates of Block-AP needs validation data, and there is none"
    );
}
