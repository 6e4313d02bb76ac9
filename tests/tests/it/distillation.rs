//! E2E-QP that teaches a model to predict what its original does.

use super::any_model::Mlp;
use super::by_blocks::assert_same_gradients;
use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn::train::InferenceStep;
use burn_eqat::lm::{TokenBatch, TokenWindows};
use burn_eqat::train::{DistillationConfig, E2eQpConfig, Student, Teacher, TrainError};
use burn_eqat::{
    Comparison, EfficientQatConfig, Method, Quantize, RunDir, Scheme, Stage, StageName, Weights,
};
use burn_eqat_tests::seeded;
use llama::LlamaConfig;
use llama::model::Llama;
use std::sync::Arc;

pub(super) fn original(device: &Device) -> Llama {
    let config: LlamaConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true,
    }))
    .unwrap();
    config.init(device)
}

pub(super) fn packed(original: &Llama) -> Llama {
    let scheme: Scheme = "w2g16".parse().unwrap();
    let weights = Llama::quantized_weights();
    original.clone().quantize_rtn(&weights, scheme).unwrap()
}

fn student(original: &Llama, config: DistillationConfig) -> Student<Llama> {
    Student::new(packed(original), Teacher::new(original.clone()), config).unwrap()
}

pub(super) fn batch(device: &Device) -> TokenBatch {
    let ids = Distribution::Uniform(0.0, 39.0);
    TokenBatch::from(Tensor::<2>::random([2, 20], ids, device).int())
}

/// Windows of a text that repeats itself.
pub(super) fn loader(count: i32, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
    let tokens = (0..16 * count).map(|at| (at * at / 3 + at) % 40);
    TokenWindows::new(tokens.collect(), 16).loader(2, None, device)
}

pub(super) fn loss<M>(model: &M, batch: TokenBatch) -> f64
where
    M: InferenceStep<Input = TokenBatch, Output = burn_eqat::train::QatOutput>,
{
    InferenceStep::step(model, batch).loss.into_scalar()
}

#[test]
fn gradients_by_blocks_are_those_of_the_whole() {
    let (_random, device) = (seeded(41), Device::flex());
    let original = original(&device);
    for weight in [1.0, 0.3] {
        let config = DistillationConfig::new()
            .with_weight(weight)
            .with_temperature(1.5);
        assert_same_gradients(student(&original, config), batch(&device), 3 * 7);
    }
}

#[test]
fn the_weight_goes_from_its_own_loss_to_the_original() {
    let (_random, device) = (seeded(42), Device::flex());
    let (original, batch) = (original(&device), batch(&device));
    let at = |weight| {
        let config = DistillationConfig::new().with_weight(weight);
        loss(&student(&original, config), batch.clone())
    };
    let own = loss(&packed(&original), batch.clone());
    assert!((at(0.0) - own).abs() < 1e-5 * own);
    let half = 0.5 * (own + at(1.0));
    assert!((at(0.5) - half).abs() < 1e-5 * half);
    // Nobody has anything to learn from itself.
    let teacher = Teacher::new(original.clone());
    let same = Student::new(original, teacher, DistillationConfig::new()).unwrap();
    assert!(loss(&same, batch).abs() < 1e-5);
}

#[test]
fn step_sizes_bring_a_model_nearer_to_its_original() {
    let (_random, device) = (seeded(43), Device::flex());
    let original = original(&device);
    let (before, valid) = (
        student(&original, DistillationConfig::new()),
        batch(&device),
    );
    let config = E2eQpConfig::new()
        .with_learning_rate(Some(2e-3.into()))
        .with_epochs(6);
    let tune = |recompute: bool| {
        let phase = config.clone().with_recompute(recompute).init();
        let (train, none) = (loader(16, &device), loader(0, &device));
        let student = before.clone();
        let tuned = if recompute {
            phase.run_by_blocks(student, train, none, &mut |_| Ok(()))
        } else {
            phase.run(student, train, none, &mut |_| Ok(()))
        };
        tuned.unwrap()
    };
    let (tuned, by_blocks) = (tune(false), tune(true));
    let [before, after, again] =
        [&before, &tuned, &by_blocks].map(|model| loss(model, valid.clone()));
    assert!(after < 0.8 * before, "{after} is no less than {before}");
    assert!((after - again).abs() < 1e-3 * after, "{after} {again}");
    // The original is not a part of what was trained.
    let model = tuned.into_model();
    assert_eq!(model.num_params(), packed(&original).num_params());
    let teacher = Teacher::new(original.clone());
    let same = Student::new(original, teacher, DistillationConfig::new()).unwrap();
    assert!(loss(&same, valid).abs() < 1e-5);
}

/// The validation losses of the recipe's E2E-QP, and its step sizes.
fn run(
    model: Llama,
    distillation: Option<DistillationConfig>,
    run_dir: Option<RunDir>,
    device: &Device,
) -> Result<(Comparison, Llama), TrainError> {
    let scheme: Scheme = "w2g16".parse().unwrap();
    let mut recipe = EfficientQatConfig::new(scheme, Llama::quantized_weights())
        .with_epochs(1)
        .with_distillation(distillation)
        .init();
    if let Some(run) = run_dir {
        recipe = recipe.with_run_dir(run);
    }
    let mut comparison = None;
    let data = (loader(4, device), loader(2, device));
    let model = recipe.run(model, data, &mut |stage: &Stage<'_, Llama>| {
        if stage.name == StageName::E2eQp {
            comparison = stage.comparison;
        }
        Ok::<_, TrainError>(())
    })?;
    Ok((comparison.unwrap(), model))
}

#[test]
fn the_recipe_learns_from_the_original_where_it_is_there() {
    let (_random, device) = (seeded(44), Device::flex());
    let original = original(&device);
    let with = |model: &Llama, config| run(model.clone(), config, None, &device).unwrap().0;
    let config = EfficientQatConfig::new("w2g16".parse().unwrap(), Weights::linears());
    assert_eq!(config.distillation, Some(DistillationConfig::new()));
    assert_eq!(config.method, Method::EfficientQat);
    let taught = with(&original, config.distillation);
    let alone = with(&original, None);
    // A divergence is far below the loss of random tokens, which is that of guessing at best.
    assert!(
        taught.before < 1.0 && taught.after < taught.before,
        "{taught:?}"
    );
    assert!(alone.before > 3.0, "{alone:?}");
    // A packed model has no original.
    let packed = packed(&original);
    assert!(with(&packed, config.distillation).before > 3.0);
}

#[test]
fn a_run_is_not_taken_up_with_another_distillation() {
    let (_random, device) = (seeded(45), Device::flex());
    let original = original(&device);
    let dir = tempfile::tempdir().unwrap();
    let run_dir = || Some(RunDir::open_or_create(&dir.path().join("run")).unwrap());
    let config = DistillationConfig::new();
    run(original.clone(), Some(config), run_dir(), &device).unwrap();
    run(original.clone(), Some(config), run_dir(), &device).unwrap();
    for other in [None, Some(config.with_temperature(2.0))] {
        let error = run(original.clone(), other, run_dir(), &device).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("distillation"), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let (_random, device) = (seeded(46), Device::flex());
    let model = Mlp::new(&device);
    let error = Student::new(
        model.clone(),
        Teacher::new(model),
        DistillationConfig::new(),
    );
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("Mlp has no loss to learn from its original: implement Blockwise::distills"),
        "{text}"
    );
    let original = original(&device);
    for (config, expected) in [
        (
            DistillationConfig::new().with_temperature(0.0),
            "temperature of distillation is 0, expected more than 0",
        ),
        (
            DistillationConfig::new().with_weight(1.5),
            "weight of distillation is 1.5, expected 0 to 1",
        ),
    ] {
        let model = original.clone();
        let error = Student::new(model.clone(), Teacher::new(model), config).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
