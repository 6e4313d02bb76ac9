//! Activations and products in half precision, with masters in f32.

use super::by_blocks::assert_same_gradients;
use super::families;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Distribution, Int, Tensor};
use burn_eqat::lm::{NextTokenLoss, TokenBatch, frozen_head_loss, head_logits, next_token_loss};
use burn_eqat::train::{Hidden, Phase, TrainError, TrainEvent};
use burn_eqat::{
    ComputeType, EfficientQatConfig, Observer, QuantLinear, QuantLinearConfig, Quantize, Scheme,
    Stage, Weights,
};
use burn_eqat_tests::{assert_near, batches, seeded, values};
use llama::model::Llama;
use llama::{LlamaConfig, LoadedLlama, Tables};
use serde_json::json;
use std::fs;
use std::sync::Arc;

const HALF: [(ComputeType, f64); 2] = [(ComputeType::Bf16, 1e-2), (ComputeType::F16, 1.5e-3)];

/// Gradients of float parameters in the order of a visitor: their types and values.
fn gradients<M: Module>(model: &M, grads: &GradientsParams) -> Vec<(DType, Vec<f32>)> {
    struct Collect<'a>(&'a GradientsParams, Vec<(DType, Vec<f32>)>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.get::<D>(param.id) {
                self.1.push((grad.dtype(), values(grad)));
            }
        }
    }
    let mut collect = Collect(grads, Vec::new());
    model.visit(&mut collect);
    collect.1
}

#[test]
fn a_layer_follows_its_input_and_keeps_its_masters() {
    let (_random, device) = (seeded(41), Device::flex());
    let layer = |d_input, d_output| QuantLinearConfig::new(d_input, d_output).init(&device);
    let all = Weights::matrices();
    let scheme = |text: &str| -> Scheme { text.parse().unwrap() };
    // A layer, the number of its parameters that train, and the shape of its input.
    let layers: [(QuantLinear, usize, [usize; 3]); 4] = [
        (layer(24, 13), 2, [3, 5, 24]),
        (
            layer(33, 5)
                .attach_fake_quant(&all, scheme("w3g11"))
                .unwrap(),
            4,
            [1, 7, 33],
        ),
        (
            layer(24, 13).quantize_rtn(&all, scheme("w2g8")).unwrap(),
            2,
            [2, 1, 24],
        ),
        (
            layer(64, 32).quantize_rtn(&all, scheme("w4g32")).unwrap(),
            2,
            [2, 30, 64],
        ),
    ];
    for (layer, trained, shape) in layers {
        let layer = layer.train();
        let uniform = Distribution::Uniform(-1.0, 1.0);
        let x = Tensor::<3>::random(shape, uniform, &device);
        let slope = Tensor::<1>::random([layer.shape()[1]], uniform, &device);
        for (compute, tolerance) in HALF {
            // The same input in both types.
            let x = compute.cast(x.clone());
            let run = |compute: ComputeType| {
                let x = compute.cast(Tensor::from_inner(x.clone())).require_grad();
                let y = layer.forward(x.clone());
                assert_eq!(y.dtype(), compute.dtype());
                let slope = Tensor::from_inner(slope.clone()).unsqueeze();
                let grads = (ComputeType::F32.cast(y.clone()) * slope).sum().backward();
                let dx = x.grad(&grads).unwrap();
                assert_eq!(dx.dtype(), compute.dtype());
                let params = GradientsParams::from_grads(grads, &layer);
                (values(y.inner()), values(dx), gradients(&layer, &params))
            };
            let (y, dx, grads) = run(compute);
            let (expected_y, expected_dx, expected_grads) = run(ComputeType::F32);
            assert_near("y", &y, &expected_y, tolerance);
            assert_near("dx", &dx, &expected_dx, tolerance);
            assert_eq!((grads.len(), expected_grads.len()), (trained, trained));
            for (i, ((dtype, actual), (_, expected))) in
                grads.iter().zip(&expected_grads).enumerate()
            {
                assert_eq!(*dtype, DType::F32, "{compute}, {i}");
                // A zero point gets a gradient from weights out of range only, and there is none.
                if expected.iter().all(|value| *value == 0.0) {
                    assert_eq!(actual, expected, "{compute}, {i}");
                    continue;
                }
                // A rounding of what is clamped or not may differ for one of few numbers.
                assert_near(
                    &format!("{compute}, {i}"),
                    actual,
                    expected,
                    2.0 * tolerance,
                );
            }
        }
    }
}

#[test]
fn errors_of_half_precision_are_added_up_in_f32() {
    let device = Device::flex();
    let half = |value: f32| {
        let ones = Tensor::<2>::ones([3, 1001], &device);
        ComputeType::F16.cast(ones * value)
    };
    // The square of the difference, 2^-20, is nothing in f16.
    let error = half(1.0).mse(half(1.0 - 2f32.powi(-10)));
    assert_eq!(error.dtype(), DType::F32);
    assert_eq!(error.into_scalar::<f32>(), 2f32.powi(-20));
}

#[test]
fn a_head_in_half_precision_is_used_in_tiles() {
    let (_random, device) = (seeded(42), Device::flex());
    // More numbers than are cast at a time.
    let (width, vocab) = (1024, 9001);
    let uniform = Distribution::Uniform(-0.1, 0.1);
    let head = Tensor::<2>::random([width, vocab], uniform, &device);
    let head = ComputeType::Bf16.cast(head);
    let wide = ComputeType::F32.cast(head.clone());
    let hidden = Tensor::<3>::random([2, 3, width], Distribution::Default, &device);
    let ids = Distribution::Uniform(0.0, vocab as f64 - 1.0);
    let tokens = Tensor::<2>::random([2, 3], ids, &device).int();

    let logits = head_logits(hidden.clone(), head.clone());
    assert_eq!((logits.dtype(), logits.dims()), (DType::F32, [2, 3, vocab]));
    let expected = head_logits(hidden.clone(), wide.clone());
    assert_near("logits", &values(logits.clone()), &values(expected), 1e-6);

    let run = |head: Tensor<2>| {
        let hidden = Tensor::from_inner(hidden.clone()).require_grad();
        let head = Tensor::from_inner(head);
        let tokens = Tensor::from_inner(tokens.clone());
        let loss = frozen_head_loss(hidden.clone(), head, tokens);
        let grad = hidden.grad(&loss.backward()).unwrap();
        (loss.into_scalar::<f32>(), values(grad))
    };
    let ((loss, grad), (expected, expected_grad)) = (run(head.clone()), run(wide));
    assert!(
        (loss - expected).abs() < 1e-5 * expected,
        "{loss} {expected}"
    );
    assert_near("gradient", &grad, &expected_grad, 1e-5);

    // A hidden state in half precision gets its gradient in that type.
    let hidden = Tensor::from_inner(ComputeType::Bf16.cast(hidden)).require_grad();
    let loss = frozen_head_loss(
        hidden.clone(),
        Tensor::from_inner(head),
        Tensor::from_inner(tokens.clone()),
    );
    assert_eq!(loss.dtype(), DType::F32);
    let grad = hidden.grad(&loss.backward()).unwrap();
    assert_eq!(grad.dtype(), DType::BF16);
    assert_near("gradient", &values(grad), &expected_grad, 2e-2);
    let from_half = next_token_loss(ComputeType::Bf16.cast(logits), tokens);
    assert_eq!(from_half.dtype(), DType::F32);
    let from_half = from_half.into_scalar::<f32>();
    assert!((from_half - expected).abs() < 1e-2 * expected);
}

fn small(tied: bool) -> LlamaConfig {
    serde_json::from_value(json!({
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied,
    }))
    .unwrap()
}

#[test]
fn gradients_of_a_llama_are_those_by_blocks_in_half_precision_too() {
    let (_random, device) = (seeded(43), Device::flex());
    for (compute, _) in HALF {
        let model = small(true).init(&device).with_compute_type(compute);
        let scheme: Scheme = "w2g16".parse().unwrap();
        let weights = Llama::quantized_weights();
        let packed = model.quantize_rtn(&weights, scheme).unwrap();
        assert_eq!(packed.compute_type(), compute);
        let ids = Distribution::Uniform(0.0, 39.0);
        let batch = TokenBatch::from(Tensor::<2>::random([2, 20], ids, &device).int());
        assert_same_gradients(packed, batch, 3 * 7);
    }
}

/// The last training and validation losses of each phase.
#[derive(Default)]
struct Losses(Vec<(Phase, Vec<f64>)>);

impl Observer<Llama> for Losses {
    fn stage(&mut self, _stage: &Stage<'_, Llama>) -> Result<(), TrainError> {
        Ok(())
    }

    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        match event {
            TrainEvent::PhaseStart { phase, .. } => self.0.push((*phase, Vec::new())),
            TrainEvent::SplitEnd { loss, .. } => self.0.last_mut().unwrap().1.push(*loss),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn both_phases_end_where_f32_does() {
    let (_random, device) = (seeded(44), Device::flex());
    let model = small(false).init(&device);
    let tokens = |count: usize| {
        // A text with something to learn: each token is followed by one of two.
        let ids = (0..count * 24).map(|i| ((i * i / 3 + i % 2) % 40) as i32);
        let ids: Vec<i32> = ids.collect();
        let windows = Tensor::<1, Int>::from_data(ids.as_slice(), &device).reshape([count, 24]);
        let batch = |i: usize| TokenBatch::from(windows.clone().slice_dim(0, 4 * i..4 * i + 4));
        batches((0..count / 4).map(batch).collect())
    };
    let (train, valid) = (tokens(32), tokens(8));
    let run = |compute: ComputeType, recompute: bool| {
        let mut losses = Losses::default();
        let scheme = "w3g16".parse().unwrap();
        let recipe = EfficientQatConfig::new(scheme, Llama::quantized_weights())
            .with_epochs(2)
            .with_distillation(None)
            .with_recompute(recompute)
            .init();
        let model = model.clone().with_compute_type(compute);
        let data = (Arc::clone(&train), Arc::clone(&valid));
        let packed = recipe.run(model, data, &mut losses).unwrap();
        for (path, dtype) in types(&packed) {
            assert_eq!(dtype, DType::F32, "{path}");
        }
        losses.0
    };
    let expected = run(ComputeType::F32, false);
    assert_eq!(expected.len(), 2);
    for recompute in [false, true] {
        let actual = run(ComputeType::Bf16, recompute);
        assert_eq!(actual.len(), 2);
        for ((phase, actual), (_, expected)) in actual.iter().zip(&expected) {
            assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.iter().zip(expected) {
                let off = (actual / expected - 1.0).abs();
                // A block's error is small, and some of it is of codes that round differently; as often it is less.
                let most = match phase {
                    Phase::BlockAp => 0.3,
                    Phase::E2eAp | Phase::E2eQp => 0.005,
                };
                assert!(off < most, "{phase:?}: {actual} {expected}");
            }
        }
    }
}

/// The types of float parameters, by path.
fn types<M: Module>(model: &M) -> Vec<(String, DType)> {
    struct Types(Vec<String>, Vec<(String, DType)>);
    impl ModuleVisitor for Types {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.0.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push((self.0.join("."), param.val().dtype()));
        }
    }
    let mut types = Types(Vec::new(), Vec::new());
    model.visit(&mut types);
    types.1
}

#[test]
fn tables_stay_in_the_type_of_the_file() {
    let device = Device::flex();
    for name in ["llama2", "smollm2"] {
        check_tables(name, &device);
    }
}

/// One model has an output layer of its own, the other that of its embedding.
fn check_tables(name: &str, device: &Device) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path();
    families::write(dir, &families::fixture(name), families::Float::Bf16, 1);
    let (wide, stored) = (
        LoadedLlama::open(dir, device).unwrap(),
        LoadedLlama::open_with(dir, device, Tables::AsStored).unwrap(),
    );
    let by_block = LoadedLlama::open_by_block_with(dir, device, Tables::AsStored).unwrap();
    for model in [&stored.model, &by_block.model] {
        for (path, dtype) in types(model) {
            let table = path.ends_with("embed_tokens.weight") || path == "lm_head.weight";
            let expected = if table { DType::BF16 } else { DType::F32 };
            assert_eq!(dtype, expected, "{path}");
        }
    }
    let ids: Vec<i32> = (0..24).map(|i| i * 7 % 31).collect();
    let tokens = Tensor::<1, Int>::from_data(ids.as_slice(), device).reshape([2, 12]);
    let batch = || TokenBatch::from(tokens.clone());
    let loss = |model: &Llama| model.loss(batch()).unwrap().into_scalar::<f32>();
    let expected = loss(&wide.model);
    for model in [&stored.model, &by_block.model] {
        let actual = loss(model);
        assert!((actual - expected).abs() < 1e-5 * expected);
    }
    let logits = |model: &Llama| values(model.forward(batch().tokens).unwrap());
    assert_near("logits", &logits(&stored.model), &logits(&wide.model), 1e-6);
    // In half precision everything between the tables is too; logits are not.
    let half = stored.model.clone().with_compute_type(ComputeType::Bf16);
    let found = half.forward(batch().tokens).unwrap();
    assert_eq!(found.dtype(), DType::F32);
    assert_near("logits", &values(found), &logits(&wide.model), 3e-2);
    let mut cache = half.new_cache();
    let last = half.forward_cached(batch().tokens, &mut cache).unwrap();
    let [_, vocab] = last.dims();
    let all = logits(&half);
    let expected: Vec<f32> = [11, 23]
        .into_iter()
        .flat_map(|row| all[row * vocab..(row + 1) * vocab].to_vec())
        .collect();
    assert_near("cached", &values(last), &expected, 1e-2);

    // What is saved is the same to the bit.
    let scheme: Scheme = "w4g-1".parse().unwrap();
    let bytes = |loaded: &LoadedLlama, name: &str| {
        let packed = (loaded.model.clone())
            .quantize_rtn(&Llama::quantized_weights(), scheme)
            .unwrap();
        let target = parent.path().join(name);
        loaded.save_packed(&packed, &target, false).unwrap();
        fs::read(target.join("model.safetensors")).unwrap()
    };
    assert!(bytes(&wide, "wide") == bytes(&stored, "stored"));
}
