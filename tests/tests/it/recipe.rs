//! The whole recipe on a model that is no Llama: its stages, what it refuses, and how it fails.

use super::any_model::{Mlp, Sample, loader, samples};
use burn::tensor::Device;
use burn_eqat::train::{LearningRates, Phase, ProgressLines, TrainError, TrainEvent};
use burn_eqat::{
    Bits, EfficientQatConfig, Method, Observer, Packed, PhaseLoaders, Quantize, Scheme, Stage,
    StageName, Weights,
};
use burn_eqat_tests::seeded;

/// A model and what it gives for random inputs.
fn model_and_samples(seed: u64, count: usize) -> (Mlp, Vec<Sample>) {
    let (_random, device) = (seeded(seed), Device::flex());
    let model = Mlp::new(&device);
    let set = samples(count, &|x| model.forward(x), &device);
    (model, set)
}

fn config(scheme: &str) -> EfficientQatConfig {
    EfficientQatConfig::new(scheme.parse().unwrap(), Weights::linears())
}

/// Training and validation data of both phases.
fn data(set: &[Sample]) -> PhaseLoaders<super::any_model::Batch> {
    (loader(set, 8), loader(&set[..8], 8)).into()
}

/// How far a model is from what the samples say.
fn loss(model: &Mlp, set: &[Sample]) -> f64 {
    let batch = loader(set, set.len()).iter().next().unwrap().unwrap();
    (model.forward(batch.input) - batch.target)
        .square()
        .mean()
        .into_scalar()
}

#[test]
fn each_stage_is_observed_in_turn() {
    let (model, set) = model_and_samples(21, 64);
    let (mut names, mut losses, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let config = config("w2g12").with_epochs(4).with_e2e_epochs(4);
    let packed = config
        .init()
        .run(model, data(&set), &mut |stage: &Stage<'_, Mlp>| {
            let size = stage.model.size_report();
            assert_eq!(stage.size_report, size);
            let layers = stage.model.layer_sizes();
            let bytes: usize = layers.iter().map(|layer| layer.bytes).sum();
            assert_eq!(bytes, size.packed_bytes);
            assert!(layers.iter().all(|layer| layer.path.ends_with("weight")));
            names.push(stage.name);
            losses.push(loss(stage.model, &set));
            rates.push(stage.rates);
            assert!(stage.seconds >= 0.0);
            match stage.name {
                StageName::FullPrecision => assert_eq!(size.packed_weights, 0),
                // 2 + 18 / 12, and the padding of the last words.
                _ => assert!((3.5..3.8).contains(&size.bits_per_weight())),
            }
        });
    let packed = packed.unwrap();
    let expected = [
        StageName::FullPrecision,
        StageName::Rtn,
        StageName::BlockAp,
        StageName::E2eQp,
    ];
    assert_eq!(names, expected);
    let [full, rtn, block_ap, e2e_qp] = losses[..] else {
        panic!("{losses:?}");
    };
    assert!(
        full < 1e-9 && block_ap < rtn && e2e_qp < block_ap,
        "{losses:?}"
    );
    let small = LearningRates::small(Bits::Two);
    assert_eq!(rates[..2], [None, None]);
    assert_eq!(rates[2].unwrap().quantizer, small.quantizer);
    assert_eq!(rates[3].unwrap().e2e, small.e2e);
    // What comes back is what was measured.
    assert_eq!(loss(&packed, &set), e2e_qp);
}

#[test]
fn a_method_ends_where_it_says() {
    let (model, set) = model_and_samples(22, 8);
    for (method, expected) in [(Method::Rtn, 2), (Method::BlockAp, 3)] {
        let mut stages = 0;
        let recipe = config("w4g12").with_method(method).init();
        let mut observer = (ProgressLines::stderr(), |_: &Stage<'_, Mlp>| stages += 1);
        let packed = recipe.run(model.clone(), data(&set), &mut observer);
        assert!(packed.unwrap().size_report().packed_weights > 0);
        assert_eq!(stages, expected, "{method}");
    }
    // Round to nearest reads no data.
    let recipe = config("w4g12").with_method(Method::Rtn).init();
    let none = (loader(&[], 8), loader(&[], 8));
    let rtn = recipe.run(model.clone(), none.clone(), &mut ()).unwrap();
    let weights = Weights::linears();
    let expected = model
        .clone()
        .quantize_rtn(&weights, recipe.config().scheme)
        .unwrap();
    assert_eq!(loss(&rtn, &set), loss(&expected, &set));
    // Training does.
    let error = config("w4g12")
        .init()
        .run(model, none, &mut ())
        .unwrap_err();
    assert!(matches!(error, TrainError::NoData), "{error}");
}

#[test]
fn overrides_hold_in_every_stage() {
    let (model, set) = model_and_samples(23, 16);
    let overrides = vec![
        "^middle=w4g24".parse().unwrap(),
        "^last=w3g-1".parse().unwrap(),
    ];
    let config = config("w2g12").with_overrides(overrides);
    let schemes = |model: &Mlp| -> Vec<String> {
        [&model.first, &model.middle, &model.last]
            .into_iter()
            .map(|linear| {
                linear
                    .weight
                    .reparameterization::<Packed>()
                    .unwrap()
                    .scheme()
                    .to_string()
            })
            .collect()
    };
    let recipe = config.init();
    let packed = recipe.run(model.clone(), data(&set), &mut |stage: &Stage<'_, Mlp>| {
        if stage.name != StageName::FullPrecision {
            assert_eq!(
                schemes(stage.model),
                ["w2g12", "w4g24", "w3g-1"],
                "{}",
                stage.name
            );
        }
    });
    packed.unwrap();

    let typo = config.with_overrides(vec!["mdidle=w4g24".parse().unwrap()]);
    let mut stages = 0;
    let result = typo
        .init()
        .run(model, data(&set), &mut |_: &Stage<'_, Mlp>| stages += 1);
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("\"mdidle\" matches none")
    );
    assert_eq!(stages, 0, "nothing is measured before");
}

/// A loss that is not finite in either phase gives an error that says where, and no model.
#[test]
fn a_loss_that_is_not_finite_is_an_error() {
    let (model, good) = model_and_samples(24, 16);
    let mut bad = good.clone();
    bad[12].0[0] = f32::INFINITY;
    let recipe = config("w2g12").with_max_skipped(0).init();
    let error = recipe.run(model.clone(), data(&bad), &mut ()).unwrap_err();
    let TrainError::Loss {
        phase,
        block,
        step,
        rates,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (*phase, *block, *step),
        (Phase::BlockAp, Some(0), 2),
        "{error}"
    );
    assert_eq!(rates.len(), 2, "{error}");

    let data = PhaseLoaders {
        block_ap: data(&good).block_ap,
        e2e_qp: data(&bad).e2e_qp,
    };
    let mut last = None;
    let result = recipe.run(model, data, &mut |stage: &Stage<'_, Mlp>| {
        last = Some(stage.name)
    });
    let error = result.unwrap_err();
    let TrainError::Loss {
        phase,
        block,
        step,
        rates,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*phase, *block, *step), (Phase::E2eQp, None, 2), "{error}");
    assert_eq!(
        (rates.len(), last),
        (1, Some(StageName::BlockAp)),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("E2E-QP, step 2: the loss is"),
        "{error}"
    );
}

/// Stops at a stage, or at an event.
struct Stopping {
    stage: Option<StageName>,
    events: usize,
}

impl Observer<Mlp> for Stopping {
    fn stage(&mut self, stage: &Stage<'_, Mlp>) -> Result<(), TrainError> {
        if self.stage == Some(stage.name) {
            return Err(TrainError::Callback(
                format!("enough at {}", stage.name).into(),
            ));
        }
        Ok(())
    }

    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        if self.stage.is_none() && matches!(event, TrainEvent::Batch { .. }) {
            self.events += 1;
            if self.events == 3 {
                return Err(TrainError::Interrupted);
            }
        }
        Ok(())
    }
}

#[test]
fn an_observer_that_fails_ends_it() {
    let (model, set) = model_and_samples(25, 32);
    let recipe = config("w4g12").init();
    let run = |observer: &mut dyn Observer<Mlp>| {
        recipe.run(model.clone(), data(&set), observer).unwrap_err()
    };
    let stage = Some(StageName::BlockAp);
    let error = run(&mut Stopping { stage, events: 0 });
    assert_eq!(error.to_string(), "enough at block-ap");
    let mut observer = Stopping {
        stage: None,
        events: 0,
    };
    assert!(matches!(run(&mut observer), TrainError::Interrupted));
    assert_eq!(observer.events, 3);

    // A closure may fail with any error.
    let error = run(&mut |stage: &Stage<'_, Mlp>| -> Result<(), String> {
        Err(format!("no {}", stage.name))
    });
    assert!(matches!(error, TrainError::Callback(_)));
    assert_eq!(error.to_string(), "no full-precision");
    let error = run(&mut |_: &Stage<'_, Mlp>| Err(TrainError::Interrupted));
    assert!(matches!(error, TrainError::Interrupted), "{error}");
}

/// What E2E-QP made worse is observed, and what it got comes back.
#[test]
fn a_model_that_e2e_qp_made_worse_is_not_returned() {
    let (model, set) = model_and_samples(27, 32);
    let wild = config("w2g12")
        .with_e2e_learning_rate(Some(3.0.into()))
        .init();
    let (mut stages, mut measured) = (Vec::new(), 0);
    let mut observer = (
        |stage: &Stage<'_, Mlp>| {
            stages.push((
                stage.name,
                loss(stage.model, &set),
                stage.kept(),
                stage.comparison,
            ));
        },
        Counting(&mut measured),
    );
    let result = wild.run(model.clone(), data(&set), &mut observer).unwrap();
    let [.., block_ap, e2e_qp] = stages[..] else {
        panic!("{stages:?}");
    };
    assert!(block_ap.2 && block_ap.3.is_none(), "{stages:?}");
    assert_eq!((e2e_qp.0, e2e_qp.2), (StageName::E2eQp, false));
    assert!(e2e_qp.1 > block_ap.1, "{stages:?}");
    let comparison = e2e_qp.3.unwrap();
    let valid = loss(&result, &set[..8]);
    assert!(
        (comparison.before / valid - 1.0).abs() < 1e-4,
        "{comparison:?}, {valid}"
    );
    assert_eq!(loss(&result, &set), block_ap.1);
    assert_eq!(
        measured, 1,
        "before the phase, which measures what it ends with"
    );

    // Without validation data nothing can be compared.
    let unseen = (loader(&set, 8), loader(&[], 8));
    let mut last = None;
    let result = wild.run(model, unseen, &mut |stage: &Stage<'_, Mlp>| {
        assert!(stage.kept() && stage.comparison.is_none());
        last = Some(loss(stage.model, &set));
    });
    assert_eq!(Some(loss(&result.unwrap(), &set)), last);
}

/// Counts the batches on which the recipe compares models.
struct Counting<'a>(&'a mut usize);

impl Observer<Mlp> for Counting<'_> {
    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        *self.0 += usize::from(matches!(event, TrainEvent::Comparison { .. }));
        Ok(())
    }
}

#[test]
fn a_packed_model_goes_to_e2e_qp() {
    let (model, set) = model_and_samples(26, 64);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let mut stages = Vec::new();
    let recipe = config("w2g12")
        .with_e2e_learning_rate(Some(1e-3.into()))
        .init();
    let tuned = recipe.run(packed.clone(), data(&set), &mut |stage: &Stage<'_, Mlp>| {
        stages.push((stage.name, loss(stage.model, &set)));
    });
    tuned.unwrap();
    let [(StageName::Packed, before), (StageName::E2eQp, after)] = stages[..] else {
        panic!("{stages:?}");
    };
    assert!(after < before, "{before} to {after}");

    let refused = |config: EfficientQatConfig| {
        let result = config.init().run(packed.clone(), data(&set), &mut ());
        result.unwrap_err().to_string()
    };
    assert_eq!(
        refused(config("w4g12")),
        "the model is packed already in w2g12: expected full precision for w4g12"
    );
    assert!(refused(config("w2g12").with_method(Method::BlockAp)).ends_with("for method block-ap"));
    let overrides = vec!["last=w4g12".parse().unwrap()];
    let error = refused(config("w2g12").with_overrides(overrides));
    assert!(error.ends_with("for override last=w4g12"), "{error}");
}
