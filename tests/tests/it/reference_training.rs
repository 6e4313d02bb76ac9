//! Forward pass and training of a real Llama against the reference's values. Skipped where there are
//! none.

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{DType, Device, Tensor};
use burn::train::TrainStep;
use burn_eqat::kernels::{AffineWeight, pack};
use burn_eqat::lm::TokenBatch;
use burn_eqat::train::{
    BlockApConfig, BlockRates, BlockSample, BlockStep, BlockTrainer, Blockwise, Hidden,
    clip_grad_norm,
};
use burn_eqat::{FakeQuant, QuantLinear, Quantize, Scheme, Weights, quantize_codes};
use burn_eqat_tests::{Values, assert_close, assert_near, data, golden, values};
use llama::LoadedLlama;
use llama::model::{DecoderBlock, Llama};
use std::collections::HashMap;

fn stories(device: &Device) -> Option<(LoadedLlama, impl Fn(&str) -> Values)> {
    let dir = data()?.join("models/stories3M-hf");
    let golden = golden()?.join("stories3M");
    let loaded = LoadedLlama::open(&dir, device).unwrap();
    let read = move |name: &str| Values::read(&golden.join(format!("{name}.safetensors")));
    Some((loaded, read))
}

#[test]
fn the_forward_pass_agrees() {
    let device = Device::flex();
    let Some((loaded, golden)) = stories(&device) else {
        return;
    };
    let model = loaded.model;
    let golden = golden("fp_forward");
    let close = |name: &str, actual: Tensor<3>| {
        let expected = values(golden.tensor::<3>(name, &device));
        for (a, e) in values(actual).iter().zip(expected) {
            assert!(
                (a - e).abs() <= 1e-4 * e.abs().max(1.0),
                "{name}: {a} is not {e}"
            );
        }
    };
    let ids = golden.ints::<2>("ids", &device);
    let mut hidden = model.embed(ids.clone());
    for (i, block) in model.model.layers.iter().flatten().enumerate() {
        close(&format!("hidden_{i}"), hidden.clone());
        hidden = block.forward(hidden, &model.rope, None);
    }
    close("hidden_6", model.model.norm.forward(hidden));
    close("logits", model.forward(ids.clone()).unwrap());

    // A token at a time, the cache gives the same.
    let [_, seq] = ids.dims();
    let mut cache = model.new_cache();
    let mut last = model
        .forward_cached(ids.clone().slice_dim(1, 0..seq - 3), &mut cache)
        .unwrap();
    for at in seq - 3..seq {
        last = model
            .forward_cached(ids.clone().slice_dim(1, at..at + 1), &mut cache)
            .unwrap();
    }
    let expected = golden
        .tensor::<3>("logits", &device)
        .slice_dim(1, seq - 1..seq);
    assert_close("cached", &values(last), &values(expected), 1e-4);
}

/// The linear layers of a block, with the reference's names for them.
fn block(trainer: &BlockTrainer<Llama>, index: usize) -> &DecoderBlock {
    trainer.model().model.layers[index].as_ref().unwrap()
}

fn linears(block: &DecoderBlock) -> [(&'static str, &QuantLinear); 7] {
    [
        ("self_attn.q_proj", &block.self_attn.q_proj),
        ("self_attn.k_proj", &block.self_attn.k_proj),
        ("self_attn.v_proj", &block.self_attn.v_proj),
        ("self_attn.o_proj", &block.self_attn.o_proj),
        ("mlp.gate_proj", &block.mlp.gate_proj),
        ("mlp.up_proj", &block.mlp.up_proj),
        ("mlp.down_proj", &block.mlp.down_proj),
    ]
}

fn fake_quant(linear: &QuantLinear) -> &FakeQuant {
    linear
        .weight
        .reparameterization::<FakeQuant>()
        .expect("attached")
}

#[test]
fn a_block_trains_as_in_the_reference() {
    for scheme in ["w2g64", "w4g64"] {
        let device = Device::flex();
        let Some((loaded, golden)) = stories(&device) else {
            return;
        };
        let golden = golden(&format!("block1_{scheme}"));
        let model = loaded.model;
        let weights = Weights::matching("_proj.weight").unwrap();
        let config = BlockApConfig::new(scheme.parse().unwrap(), weights);
        let mut trainer = BlockTrainer::new(model, 1, &config).unwrap();
        let sample = BlockSample::<Llama> {
            input: golden.tensor::<3>("x", &device),
            target: golden.tensor::<3>("target", &device),
            context: (),
        };

        // The start, and the gradients of the first step.
        let tensor = |t: &Param<Tensor<2>>| values(t.base().inner());
        for (name, linear) in linears(block(&trainer, 1)) {
            let [_, out] = linear.shape();
            let fake = fake_quant(linear);
            let per_group = |field: &str| {
                let name = format!("init.{name}.weight_quantizer.{field}");
                golden.per_group(&name, out, &device)
            };
            assert_close(
                name,
                &tensor(&fake.scales),
                &values(per_group("scale")),
                1e-6,
            );
            let max = f64::from(config.scheme.bits.max_code());
            let zero = per_group("zero_point").clamp(0.0, max);
            assert_eq!(tensor(&fake.zero_points), values(zero), "{name}");
        }
        let input = Tensor::from_inner(sample.input.clone());
        let output = trainer.model().run_block(1, input, &()).unwrap();
        let expected = golden.tensor::<3>("out_init", &device);
        assert_close(
            "out_init",
            &values(output.clone().inner()),
            &values(expected),
            1e-4,
        );
        let grads = output
            .mse(Tensor::from_inner(sample.target.clone()))
            .backward();
        for (name, linear) in linears(block(&trainer, 1)) {
            let [_, out] = linear.shape();
            let check = |field: &str, actual: Tensor<2>, expected: Tensor<2>| {
                let what = format!("grad.{name}.{field}");
                assert_close(&what, &values(actual), &values(expected), 1e-3);
            };
            let fake = fake_quant(linear);
            let dw = linear.weight.base().grad(&grads).unwrap();
            let expected = golden.tensor::<2>(&format!("grad.{name}.weight"), &device);
            check("weight", dw, expected.transpose());
            for (field, param) in [("scale", &fake.scales), ("zero_point", &fake.zero_points)] {
                let name = format!("grad.{name}.weight_quantizer.{field}");
                let expected = golden.per_group(&name, out, &device);
                check(field, param.val().grad(&grads).unwrap(), expected);
            }
        }

        // Twenty steps with the recorded learning rates. A weight at the border between two codes
        // falls to either by the last bit of a sum, so a single step may stray a little further than
        // the run as a whole.
        let lrs = golden.numbers("lrs").to_vec();
        let losses = golden.numbers("losses").to_vec();
        let mut errors = Vec::new();
        for (step, expected) in losses.into_iter().enumerate() {
            let rates = BlockRates {
                quantizer: lrs[2 * step].into(),
                weights: lrs[2 * step + 1].into(),
            };
            let BlockStep::Taken { loss, .. } = trainer.step(sample.clone(), rates).unwrap() else {
                panic!("{scheme} step {step}: not taken");
            };
            let loss: f64 = loss.into_scalar();
            let error = (loss - expected).abs() / expected;
            assert!(
                error < 0.02,
                "{scheme} step {step}: {loss} is not {expected}"
            );
            errors.push(error);
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!(mean < 0.005, "{scheme}: {errors:?}");
        for (name, linear) in linears(block(&trainer, 1)) {
            let [_, out] = linear.shape();
            let expected = golden.per_group(
                &format!("after20.{name}.weight_quantizer.scale"),
                out,
                &device,
            );
            let actual = tensor(&fake_quant(linear).scales);
            assert_near(&format!("after20 {name}"), &actual, &values(expected), 1e-2);
        }
        let norm = values(block(&trainer, 1).input_layernorm.gamma.val().inner());
        let expected = golden.tensor::<1>("after20.input_layernorm.weight", &device);
        assert_close("after20 input_layernorm", &norm, &values(expected), 1e-3);
    }
}

/// Replaces fake-quantized weights by what they quantize to in half-precision arithmetic, as the
/// reference does before it packs. A weight halfway between two codes may fall to either side.
fn quantize_in_half(model: Llama) -> Llama {
    struct Replace {
        path: Vec<String>,
        values: HashMap<String, Tensor<2>>,
    }
    impl ModuleMapper for Replace {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.values.remove(&self.path.join(".")) {
                Some(value) => param.map(|old| value.reshape(old.dims())),
                None => param,
            }
        }
    }
    let mut values = HashMap::new();
    for (i, block) in model.model.layers.iter().flatten().enumerate() {
        for (name, linear) in linears(block) {
            let fake = fake_quant(linear);
            let half = |t: Tensor<2>| t.cast(DType::F16);
            let (w, s) = (half(linear.weight.base()), half(fake.scales.val()));
            let z = half(fake.zero_points.val());
            let [d_input, _] = w.dims();
            let codes = quantize_codes(w, s, z, fake.scheme().bits);
            let weight = AffineWeight {
                codes: pack(codes, fake.scheme().bits).unwrap(),
                scales: fake.scales.val(),
                zero_points: fake.zero_points.val(),
                bits: fake.scheme().bits,
                d_input,
            };
            let path = format!("model.layers.{i}.{name}.weight");
            values.insert(path, weight.dequantize().unwrap());
        }
    }
    let path = Vec::new();
    model.map(&mut Replace { path, values })
}

#[test]
fn end_to_end_training_follows_the_reference() {
    let device = Device::flex();
    let Some((loaded, golden)) = stories(&device) else {
        return;
    };
    let golden = golden("e2e_w4g64");
    let attached = loaded
        .model
        .attach_fake_quant(
            &Llama::quantized_weights(),
            "w4g64".parse::<Scheme>().unwrap(),
        )
        .unwrap()
        .round_scales();
    let mut model = quantize_in_half(attached)
        .pack()
        .unwrap()
        .train_scales_only()
        .train();
    let scales = |model: &Llama, prefix: &str| -> Vec<(String, Vec<f32>, Vec<f32>)> {
        let mut all = Vec::new();
        for (i, block) in model.model.layers.iter().flatten().enumerate() {
            for (name, linear) in linears(block) {
                let name = format!("{prefix}.model.layers.{i}.{name}.scales");
                let expected = values(golden.tensor::<2>(&name, &device));
                all.push((name, values(linear.weight.base().inner()), expected));
            }
        }
        all
    };
    for (name, actual, expected) in scales(&model, "init") {
        assert_eq!(actual, expected, "{name}");
    }
    let ids = golden.ints::<2>("ids", &device);
    let logits = model.valid().forward(ids.clone()).unwrap();
    let expected = golden.tensor::<3>("logits0", &device);
    assert_close("logits0", &values(logits), &values(expected), 1e-3);

    let mut optim = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.0)
        .init();
    let batch = TokenBatch::from(Tensor::from_inner(ids));
    let (losses, norms) = (golden.numbers("losses"), golden.numbers("grad_norms"));
    for (step, rate) in golden.numbers("lrs").iter().enumerate() {
        let output = TrainStep::step(&model, batch.clone());
        let loss: f64 = output.item.loss.inner().into_scalar();
        let grads: GradientsParams = output.grads;
        let (grads, norm) = clip_grad_norm(&model, grads, 0.3);
        for (what, actual, expected) in [("loss", loss, losses[step]), ("norm", norm, norms[step])]
        {
            let error = (actual - expected).abs() / expected;
            assert!(
                error < 0.01,
                "{what} of step {step}: {actual} is not {expected}"
            );
        }
        model = optim.step(ModuleLrScheduler::new(*rate).step(), model, grads);
    }
    for (name, actual, expected) in scales(&model, "after10") {
        assert_near(&name, &actual, &expected, 1e-3);
    }
}
