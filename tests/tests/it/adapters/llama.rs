//! Two sets of step sizes on one packed Llama do what two tuned models do.

use burn::tensor::{Device, Int, Tensor};
use burn_eqat::adapter::{Adapted, Adapter};
use burn_eqat::lm::{GenerationLimits, Sampler, TokenWindows, encode, generate};
use burn_eqat::train::E2eQpConfig;
use burn_eqat::{InferenceConfig, Quantize, Scheme};
use burn_eqat_tests::{data, values};
use llama::LoadedLlama;
use llama::model::Llama;
use std::fs;
use std::path::{Path, PathBuf};

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/llama/assets")
}

/// A model rounded to nearest.
fn rounded(dir: &Path, scheme: &str) -> LoadedLlama {
    let mut loaded = LoadedLlama::open(dir, &Device::flex()).unwrap();
    let scheme: Scheme = scheme.parse().unwrap();
    let weights = Llama::quantized_weights();
    loaded.model = loaded.model.quantize_rtn(&weights, scheme).unwrap();
    loaded
}

fn tuned(model: &Llama, windows: &TokenWindows) -> Llama {
    let device = Device::flex();
    let phase = E2eQpConfig::new()
        .with_learning_rate(Some(1e-3.into()))
        .init();
    let (train, none) = (
        windows.loader(4, None, &device),
        windows.range(0..0).loader(4, None, &device),
    );
    phase
        .run(model.clone(), train, none, &mut |_| Ok(()))
        .unwrap()
}

/// What a model does: the logits of a text, and the text that it writes itself. A copy for faster decoding has to be of the
/// same step sizes.
#[derive(Debug, PartialEq)]
struct Behaviour {
    logits: Vec<f32>,
    text: Vec<u32>,
    repacked: Vec<u32>,
}

impl Behaviour {
    fn of(model: &Llama, prompt: &[u32]) -> Self {
        let device = Device::flex();
        let ids: Vec<i32> = prompt.iter().map(|id| *id as i32).collect();
        let tokens = Tensor::<1, Int>::from_data(ids.as_slice(), &device).unsqueeze();
        let limits = GenerationLimits {
            max_new_tokens: 24,
            max_positions: 256,
            eos: Vec::new(),
        };
        let write = |repack: bool| {
            let mut greedy = Sampler::new(0.0, 1.0, 0);
            let config = InferenceConfig::new().with_repack_weights(repack);
            let written = config.run(|| {
                generate(
                    model,
                    prompt,
                    &limits,
                    &mut greedy,
                    &device,
                    &mut |_| Ok(()),
                )
            });
            written.unwrap().tokens
        };
        Self {
            logits: values(model.forward(tokens).unwrap()),
            text: write(false),
            repacked: write(true),
        }
    }
}

#[test]
fn two_sets_on_one_base_are_two_tuned_models_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let device = Device::flex();
    let loaded = rounded(&assets().join("tiny-stories"), "w2g64");
    let windows = loaded.read_windows(&assets().join("eval.txt"), 64).unwrap();
    let tokenizer = loaded.tokenizer().unwrap();
    let prompt = [vec![0], encode(&tokenizer, "One day, a cat").unwrap()].concat();
    loaded
        .save_packed(&loaded.model, &path("base"), false)
        .unwrap();
    for (name, windows) in [("a", windows.range(0..16)), ("b", windows.range(16..32))] {
        let model = tuned(&loaded.model, &windows);
        loaded.save_packed(&model, &path(name), false).unwrap();
        let adapter = Adapter::of(&model).unwrap();
        adapter.save(path(&format!("{name}.safetensors"))).unwrap();
    }
    let open = |name: &str| LoadedLlama::open(&path(name), &device).unwrap().model;
    let expected = ["base", "a", "b"].map(|name| Behaviour::of(&open(name), &prompt));
    assert_ne!(expected[0].logits, expected[1].logits);
    assert_ne!(expected[0].logits, expected[2].logits);
    assert_ne!(expected[1].logits, expected[2].logits);

    let mut model = Adapted::new(open("base")).unwrap();
    let words = |model: &Llama| {
        let layer = &model.model.layers[0].as_ref().unwrap().mlp.down_proj;
        let packed = layer.weight.reparameterization::<burn_eqat::Packed>();
        let words = packed.unwrap().codes.val();
        let words = words.try_into_primitive::<burn::backend::Flex>().unwrap();
        words.bytes().as_ptr()
    };
    let before = words(model.model());
    // Nothing of the base is read from here on.
    fs::remove_dir_all(path("base")).unwrap();
    let load = |name: &str| Adapter::load(path(&format!("{name}.safetensors"))).unwrap();
    let (a, b) = (load("a"), load("b"));
    for (adapter, expected) in [
        (Some(&a), &expected[1]),
        (Some(&b), &expected[2]),
        (Some(&a), &expected[1]),
        (None, &expected[0]),
        (Some(&b), &expected[2]),
    ] {
        match adapter {
            Some(adapter) => model.switch(adapter).unwrap(),
            None => model.reset(),
        }
        assert!(Behaviour::of(model.model(), &prompt) == *expected);
        assert_eq!(
            words(model.model()),
            before,
            "the codes stay where they are"
        );
    }
    // Without the switch, too; and a model with an adapter is saved as the tuned one.
    let applied = a.apply(model.into_model()).unwrap();
    assert!(Behaviour::of(&applied, &prompt) == expected[1]);
    loaded.save_packed(&applied, &path("again"), false).unwrap();
    let bytes = |name: &str| fs::read(path(name).join("model.safetensors")).unwrap();
    assert!(bytes("again") == bytes("a"));
}

/// The bytes of an adapter's file, and of the 16-bit step sizes in it.
fn sizes(model: &Llama) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter.safetensors");
    Adapter::of(model).unwrap().save(&path).unwrap();
    let file = fs::metadata(path).unwrap().len() as usize;
    let layers = model.layer_sizes().into_iter();
    // Two bytes for each group of 64.
    let scales = layers.map(|layer| layer.weights / 64 * 2).sum();
    (file, scales)
}

#[test]
fn an_adapter_is_its_step_sizes_and_little_more() {
    let mut models = vec![assets().join("tiny-stories")];
    models.extend(data().map(|data| data.join("models/stories3M-hf")));
    for dir in models {
        let (file, scales) = sizes(&rounded(&dir, "w2g64").model);
        println!("{}: {file} bytes, {scales} of step sizes", dir.display());
        assert!(file > scales && file <= scales + 4000, "{file} of {scales}");
    }
}

#[test]
fn an_export_has_the_step_sizes_of_its_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let mut loaded = rounded(&assets().join("tiny-stories"), "w4g64");
    let windows = loaded.read_windows(&assets().join("eval.txt"), 32).unwrap();
    let model = tuned(&loaded.model, &windows.range(0..4));
    loaded.model = Adapter::of(&model).unwrap().apply(loaded.model).unwrap();
    let path = dir.path().join("gptq");
    loaded.export_gptq(&path, false).unwrap();
    let exported = LoadedLlama::open(&path, &Device::flex()).unwrap().model;
    let prompt = [0, 40, 41];
    let [exported, expected] = [exported, model].map(|model| Behaviour::of(&model, &prompt));
    assert!(exported == expected);
}
