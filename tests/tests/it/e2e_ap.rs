//! E2E-AP: all parameters of the blocks, end to end.

use super::distillation::{batch, loader, loss, original, packed};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Device;
use burn_eqat::train::{
    DistillationConfig, E2eApConfig, Phase, Rate, Student, Teacher, TrainError, TrainEvent,
};
use burn_eqat::{
    EfficientQatConfig, FakeQuant, Packed, Quantize, RunDir, Scheme, Stage, StageName, Weights,
};
use burn_eqat_tests::seeded;
use llama::model::Llama;

/// The codes of a layer, as numbers.
fn codes(layer: &Linear) -> Vec<i32> {
    let packed = layer.weight.reparameterization::<Packed>().unwrap();
    let weight = packed.weight(layer.weight.base()).unwrap();
    let codes = weight.unpacked_codes().unwrap().into_data();
    codes.iter::<i32>().collect()
}

#[test]
fn weights_come_back_next_to_the_original() {
    let (_random, device) = (seeded(51), Device::flex());
    for (scheme, [rows, columns]) in [
        ("w2g12", [36, 5]),
        ("w3g8", [40, 3]),
        ("w4g-1", [22, 7]),
        ("w8g16", [16, 4]),
    ] {
        let scheme: Scheme = scheme.parse().unwrap();
        let original = LinearConfig::new(rows, columns).init(&device);
        // Others than the original's, as training leaves them.
        let mut moved = original.clone();
        moved.weight = moved.weight.map(|weight| weight * 1.4 - 0.05);
        let packed = moved.quantize_rtn(&Weights::linears(), scheme).unwrap();
        let near = packed.clone().fake_quantize_near(&original).unwrap();
        let fake = near.weight.reparameterization::<FakeQuant>().unwrap();
        assert_eq!(fake.scheme(), scheme);

        let again = near.clone().pack().unwrap();
        assert_eq!(codes(&again), codes(&packed), "{scheme}");
        let values = |layer: &Linear| layer.weight.val().into_data();
        values(&again).assert_eq(&values(&packed), true);

        // No further from the original than what the codes stand for, and where the original has the same code, it is the original.
        let numbers = |data: burn::tensor::TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let [was, is, middle] = [
            numbers(original.weight.val().into_data()),
            numbers(near.weight.base().into_data()),
            numbers(values(&packed)),
        ];
        let (mut same, mut other) = (0, 0);
        for ((was, is), middle) in was.iter().zip(&is).zip(&middle) {
            assert!((is - was).abs() <= (middle - was).abs() + 1e-6);
            if is == was {
                same += 1;
            } else {
                other += 1;
            }
        }
        assert!(same > 0 && other > 0, "{scheme}: {same} {other}");
    }
}

#[test]
fn another_original_is_refused() {
    let (_random, device) = (seeded(52), Device::flex());
    let layer = |rows| LinearConfig::new(rows, 4).init(&device);
    let scheme: Scheme = "w2g8".parse().unwrap();
    let packed = layer(16).quantize_rtn(&Weights::linears(), scheme).unwrap();
    let error = packed.clone().fake_quantize_near(&layer(24)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "weight: the original's shape is [24, 4], expected [16, 4]"
    );
    // One that is packed has step sizes in the place of its weight.
    let error = packed.clone().fake_quantize_near(&packed).unwrap_err();
    assert!(error.to_string().starts_with("weight: "), "{error}");
}

fn phase() -> E2eApConfig {
    E2eApConfig::new()
        .with_weight_learning_rate(Some(1e-3.into()))
        .with_quant_learning_rate(Some(1e-3.into()))
        .with_epochs(6)
}

#[test]
fn everything_in_the_blocks_learns() {
    let (_random, device) = (seeded(53), Device::flex());
    let original = original(&device);
    let config = DistillationConfig::new();
    let student = |model| Student::new(model, Teacher::new(original.clone()), config).unwrap();
    let (before, valid) = (packed(&original), batch(&device));
    let near = before.clone().fake_quantize_near(&original).unwrap();
    let train = |recompute| {
        let phase = phase().with_recompute(recompute).init();
        let (train, none) = (loader(16, &device), loader(0, &device));
        let mut phases = Vec::new();
        let tuned = phase.run(student(near.clone()), train, none, &mut |event| {
            if let TrainEvent::PhaseStart { phase, .. } = event {
                phases.push(phase);
            }
            Ok(())
        });
        assert_eq!(phases, [Phase::E2eAp]);
        tuned.unwrap().into_model()
    };
    let (tuned, by_blocks) = (train(false), train(true));
    let [was, is, again] =
        [&before, &tuned, &by_blocks].map(|model| loss(&student(model.clone()), valid.clone()));
    assert!(is < 0.7 * was, "{is} is no less than {was}");
    assert!((is - again).abs() < 0.02 * is, "{is} {again}");
    assert_eq!(tuned.layer_sizes(), before.layer_sizes());
    // Codes change, norms too; what is outside of the blocks does not.
    let [old, new] = [&before, &tuned].map(|model| {
        let block = model.model.layers[0].as_ref().unwrap();
        let norm = block.input_layernorm.gamma.val().into_data();
        (codes_of(model), norm, model.model.embed_tokens.weight.val())
    });
    assert_ne!(old.0, new.0);
    assert_ne!(old.1, new.1);
    new.2.into_data().assert_eq(&old.2.into_data(), true);
}

#[test]
fn a_loss_that_is_not_finite_comes_with_both_rates() {
    let (_random, device) = (seeded(57), Device::flex());
    let original = original(&device);
    let near = packed(&original).fake_quantize_near(&original).unwrap();
    let wild = E2eApConfig::new()
        .with_weight_learning_rate(Some(1e30.into()))
        .with_quant_learning_rate(Some(Rate::InSteps(1e32)))
        .with_max_skipped(0)
        .init();
    let (train, none) = (loader(8, &device), loader(0, &device));
    let error = wild.run(near, train, none, &mut |_| Ok(()));
    let error = error.unwrap_err().to_string();
    let expected = "with learning rate 1.00e32s (quantizer) and 1.00e30 (weights)";
    assert!(
        error.starts_with("E2E-AP, step 2: ") && error.contains(expected),
        "{error}"
    );
}

/// The words of the codes of all weights.
fn codes_of(model: &Llama) -> Vec<i32> {
    struct Words(Vec<i32>);
    impl burn::module::ModuleVisitor for Words {
        fn visit_int<const D: usize>(
            &mut self,
            param: &burn::module::Param<burn::tensor::Tensor<D, burn::tensor::Int>>,
        ) {
            self.0.extend(param.val().into_data().iter::<i32>());
        }
    }
    let mut words = Words(Vec::new());
    model.visit(&mut words);
    words.0
}

fn recipe() -> EfficientQatConfig {
    EfficientQatConfig::new("w2g16".parse().unwrap(), Llama::quantized_weights())
        .with_epochs(1)
        .with_e2e_ap(Some(phase().with_epochs(1)))
}

#[test]
fn it_comes_between_the_two_phases() {
    let (_random, device) = (seeded(54), Device::flex());
    let original = original(&device);
    let dir = tempfile::tempdir().unwrap();
    let run = |in_dir: bool| {
        let mut recipe = recipe().init();
        if in_dir {
            recipe = recipe.with_run_dir(RunDir::open_or_create(&dir.path().join("run")).unwrap());
        }
        let mut stages = Vec::new();
        let data = (loader(4, &device), loader(2, &device));
        let model = recipe.run(original.clone(), data, &mut |stage: &Stage<'_, Llama>| {
            stages.push((stage.name, stage.comparison));
            Ok::<_, TrainError>(())
        });
        (stages, model.unwrap())
    };
    let (stages, model) = run(false);
    let names: Vec<StageName> = stages.iter().map(|(name, _)| *name).collect();
    let expected = [
        StageName::FullPrecision,
        StageName::Rtn,
        StageName::BlockAp,
        StageName::E2eAp,
        StageName::E2eQp,
    ];
    assert_eq!(names, expected);
    let [e2e_ap, e2e_qp] = [stages[3].1.unwrap(), stages[4].1.unwrap()];
    assert!(e2e_ap.after < e2e_ap.before, "{e2e_ap:?}");
    // The one is before packing, where step sizes are rounded.
    let off = (e2e_ap.after / e2e_qp.before - 1.0).abs();
    assert!(off < 0.01, "{e2e_ap:?} {e2e_qp:?}");
    // A run that is taken up again does it again, and ends with the same.
    for _ in 0..2 {
        let (_, again) = run(true);
        assert_eq!(codes_of(&again), codes_of(&model));
    }
}

#[test]
fn it_takes_the_place_of_e2e_qp() {
    let (_random, device) = (seeded(56), Device::flex());
    let mut last = StageName::FullPrecision;
    let model = recipe()
        .with_e2e_epochs(0)
        .init()
        .run(
            original(&device),
            (loader(4, &device), loader(0, &device)),
            &mut |stage: &Stage<'_, Llama>| {
                last = stage.name;
                Ok::<_, TrainError>(())
            },
        )
        .unwrap();
    assert_eq!(last, StageName::E2eAp);
    assert!(model.size_report().packed_weights > 0);
}

#[test]
fn what_does_not_go_together_is_named() {
    let (_random, device) = (seeded(55), Device::flex());
    let data = || (loader(2, &device), loader(0, &device));
    let error = recipe()
        .with_offload(true)
        .init()
        .run(original(&device), data(), &mut ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("offload"), "{error}");
    // E2E-QP has no epochs where E2E-AP takes its place, and only there.
    let error = recipe()
        .with_e2e_ap(None)
        .with_e2e_epochs(0)
        .init()
        .run(original(&device), data(), &mut ())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("e2e_epochs is 0"), "{error}");
    let (train, valid) = data();
    let error = phase()
        .init()
        .run(packed(&original(&device)), train, valid, &mut |_| Ok(()))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the model has no fake-quantized weights"),
        "{error}"
    );
}
