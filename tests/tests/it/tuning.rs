//! Conversations in a model's tokens, and what a model learns from them.

use burn::tensor::Device;
use burn_eqat::files::copy_side_files;
use burn_eqat::lm::{Example, Examples, SpecialTokens};
use burn_eqat::train::backward_by_blocks;
use burn_eqat::{Quantize, Scheme};
use burn_eqat_tests::data;
use llama::chat::Message;
use llama::model::Llama;
use llama::tune::{Conversation, Prompts, TuneConfig, tune};
use llama::{LoadedLlama, TokenIds};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/llama/assets/tiny-stories")
}

/// A model with a chat template.
fn with_template(model: &Path, template: &str) -> (TempDir, LoadedLlama) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(model.join(name), dir.path().join(name)).unwrap();
    }
    copy_side_files(model, dir.path()).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let loaded = LoadedLlama::open(dir.path(), &Device::flex()).unwrap();
    (dir, loaded)
}

/// As many instruct models have it, with a system message of its own.
const TEMPLATE: &str = "{% if messages[0]['role'] != 'system' %}<s>system\nYou tell stories.</s>\n{% endif %}\
    {% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}\
    {% if add_generation_prompt %}<s>assistant\n{% endif %}";

fn messages(turns: &[(&str, &str)]) -> Vec<Message> {
    let turns = turns.iter();
    turns.map(|(role, text)| Message::new(role, text)).collect()
}

fn talk() -> Vec<Message> {
    messages(&[
        ("user", "Who was it?"),
        ("assistant", "A cat."),
        ("user", "And then?"),
        ("assistant", "It ran away, as cats do."),
    ])
}

/// The runs of tokens that an example learns, as text with its special tokens.
fn learned(loaded: &LoadedLlama, example: &Example) -> Vec<String> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let mut last = None;
    for at in example.answers() {
        if last != Some(at - 1) {
            runs.push(Vec::new());
        }
        let run = runs.last_mut().unwrap();
        run.push(example.tokens()[*at] as u32);
        last = Some(*at);
    }
    let tokenizer = loaded.tokenizer().unwrap();
    let texts = runs.iter().map(|run| tokenizer.decode(run, false).unwrap());
    texts.collect()
}

#[test]
fn answers_are_learned_with_the_token_that_ends_them_and_nothing_else() {
    let mut models = vec![bundled()];
    models.extend(data().map(|data| data.join("models/stories3M-hf")));
    for model in models {
        let plain = LoadedLlama::open(&model, &Device::flex()).unwrap();
        let (_dir, templated) = with_template(&model, TEMPLATE);
        for (loaded, name) in [
            (&plain, "the Alpaca prompt"),
            (&templated, "the model's chat template"),
        ] {
            let tokenizer = loaded.tokenizer().unwrap();
            let prompts = Prompts::of(loaded, &tokenizer).unwrap();
            assert_eq!(prompts.name(), name);
            let talk = talk();
            let conversation = Conversation::Messages(talk.clone());
            let example = prompts.example(&conversation).unwrap().unwrap();
            let expected = ["A cat.</s>", "It ran away, as cats do.</s>"];
            assert_eq!(learned(loaded, &example), expected, "{name}");
            // A prompt ends where its answer begins, in the very tokens of the example.
            for asked in [1, 3] {
                let prompt = prompts.prompt(&talk[..asked]).unwrap();
                let prompt: Vec<i32> = prompt.iter().map(|id| *id as i32).collect();
                assert_eq!(example.tokens()[..prompt.len()], prompt, "{name} {asked}");
                assert!(example.answers().contains(&prompt.len()));
                assert!(!example.answers().contains(&(prompt.len() - 1)));
            }
            let instruction = Conversation::Instruction {
                instruction: "Tell me more.".into(),
                input: "A cat.".into(),
                output: "It slept.".into(),
            };
            let example = prompts.example(&instruction).unwrap().unwrap();
            assert_eq!(learned(loaded, &example), ["It slept.</s>"], "{name}");
            let ids: Vec<u32> = example.tokens().iter().map(|id| *id as u32).collect();
            let text = tokenizer.decode(&ids, false).unwrap();
            assert!(
                text.contains("Tell me more.\n\n") && text.contains("A cat."),
                "{text}"
            );
        }
    }
}

#[test]
fn a_template_that_forgets_is_refused() {
    // Answers are cut as soon as more follows.
    let template = "{% for message in messages %}<s>{% if loop.last or message.role == 'user' %}{{ message.content }}\
        {% else %}{{ message.content[:3] }}{% endif %}</s>{% endfor %}";
    let (_dir, loaded) = with_template(&bundled(), template);
    let tokenizer = loaded.tokenizer().unwrap();
    let prompts = Prompts::of(&loaded, &tokenizer).unwrap();
    let short = Conversation::Messages(talk()[..2].to_vec());
    let example = prompts.example(&short).unwrap().unwrap();
    assert_eq!(learned(&loaded, &example), ["<s>A cat.</s>"]);
    let error = prompts
        .example(&Conversation::Messages(talk()))
        .unwrap_err();
    assert!(
        error.to_string().contains("message 2 in another way"),
        "{error}"
    );
}

#[test]
fn messages_without_a_place_are_refused() {
    let loaded = LoadedLlama::open(&bundled(), &Device::flex()).unwrap();
    let tokenizer = loaded.tokenizer().unwrap();
    let prompts = Prompts::of(&loaded, &tokenizer).unwrap();
    let odd = messages(&[("user", "a"), ("tool", "b"), ("assistant", "c")]);
    let error = prompts.prompt(&odd).unwrap_err().to_string();
    assert!(
        error.contains("tiny-stories") && error.contains("message of tool"),
        "{error}"
    );
    assert!(prompts.example(&Conversation::Messages(odd)).is_err());
}

#[test]
fn a_model_without_an_end_learns_the_text_alone() {
    let mut loaded = LoadedLlama::open(&bundled(), &Device::flex()).unwrap();
    loaded.config.eos_token_id = Some(TokenIds::Many(Vec::new()));
    assert_eq!(
        loaded.config.special_tokens(),
        SpecialTokens {
            bos: Some(0),
            eos: None
        }
    );
    let tokenizer = loaded.tokenizer().unwrap();
    let prompts = Prompts::of(&loaded, &tokenizer).unwrap();
    let example = prompts.example(&Conversation::Messages(talk()[..2].to_vec()));
    assert_eq!(learned(&loaded, &example.unwrap().unwrap()), ["A cat."]);
}

/// A packed model, and conversations that have one answer.
fn packed() -> (LoadedLlama, Examples) {
    let mut loaded = LoadedLlama::open(&bundled(), &Device::flex()).unwrap();
    let scheme: Scheme = "w4g32".parse().unwrap();
    let weights = Llama::quantized_weights();
    loaded.model = loaded.model.quantize_rtn(&weights, scheme).unwrap();
    loaded.schemes = burn_eqat::files::PackedSchemes::of(&loaded.model);
    let tokenizer = loaded.tokenizer().unwrap();
    let prompts = Prompts::of(&loaded, &tokenizer).unwrap();
    let asked = [
        "Who ran?",
        "Who slept in the tree?",
        "Who had a big red ball?",
        "Who sang?",
    ];
    let examples = asked.iter().flat_map(|question| {
        let conversation = Conversation::Instruction {
            instruction: question.to_string(),
            input: String::new(),
            output: "It was the small blue duck.".to_string(),
        };
        prompts.example(&conversation).unwrap()
    });
    let examples = examples.collect();
    (loaded, examples)
}

/// Padding, packing, and the way to the gradients change nothing of what is learned.
#[test]
fn padded_and_lone_conversations_have_the_same_loss() {
    use burn_eqat::lm::NextTokenLoss;
    let (loaded, examples) = packed();
    let device = Device::flex();
    let mean = |batch_size: usize| {
        let loader = examples.loader(batch_size, None, &device);
        let (mut sum, mut count) = (0.0, 0);
        for batch in loader.iter() {
            let batch = batch.unwrap();
            let tokens = batch.predicted();
            let loss: f64 = loaded.model.loss(batch).unwrap().into_scalar();
            sum += loss * tokens as f64;
            count += tokens;
        }
        assert_eq!(count, examples.answers());
        sum / count as f64
    };
    let (lone, padded) = (mean(1), mean(4));
    assert!((lone - padded).abs() < 1e-5 * lone, "{lone} {padded}");

    // The loss and its gradients are the same by blocks.
    let model = {
        use burn::module::Module;
        loaded.model.clone().train_scales_only().train()
    };
    let loader = examples.loader(4, None, &device.clone().autodiff());
    let batch = loader.iter().next().unwrap().unwrap();
    let whole = model.loss(batch.clone()).unwrap();
    let whole_grads = whole.backward();
    let (by_blocks, grads) = backward_by_blocks(&model, batch).unwrap();
    let (whole, by_blocks): (f64, f64) = (whole.into_scalar(), by_blocks.into_scalar());
    assert!((whole - by_blocks).abs() < 1e-5 * whole && (whole - padded).abs() < 1e-5 * whole);
    let weight = &model.model.layers[2].as_ref().unwrap().mlp.up_proj.weight;
    let expected = weight.base().grad(&whole_grads).unwrap();
    let found = grads.get::<2>(weight.id).unwrap();
    let error: f64 = (found - expected.clone()).abs().max().into_scalar();
    assert!(error < 1e-4 * expected.abs().max().into_scalar::<f64>());
}

#[test]
fn a_model_learns_its_answers() {
    let (loaded, examples) = packed();
    let device = Device::flex();
    let config = TuneConfig::new()
        .with_epochs(12)
        .with_batch_size(2)
        .with_learning_rate(Some(1e-3.into()));
    let (train, valid): (Vec<&Example>, Vec<&Example>) = (
        examples.iter().take(3).collect(),
        examples.iter().skip(3).collect(),
    );
    let of = |items: Vec<&Example>| items.into_iter().cloned().collect::<Examples>();
    let (train, valid) = (of(train), of(valid));
    let run = |config: TuneConfig, train: &Examples, valid: &Examples| {
        tune(&loaded, train, valid, &config, &device, None, &mut |_| {
            Ok(())
        })
        .unwrap()
    };
    let tuned = run(config.clone(), &train, &valid);
    let losses = tuned.comparison.unwrap();
    println!("{losses:?}");
    // On a question that it was not trained on.
    assert!(losses.after < 0.5 * losses.before && !tuned.is_worse());
    // By blocks, and packed: the same to rounding, or about the same.
    let by_blocks = run(config.clone().with_recompute(true), &train, &valid);
    let found = by_blocks.comparison.unwrap().after;
    assert!((found / losses.after - 1.0).abs() < 0.05, "{found}");
    let packed = run(
        config.clone().with_batch_size(1),
        &train.packed(512),
        &valid,
    );
    assert!(packed.comparison.unwrap().after < 0.8 * losses.before);
    // Far too high a rate makes it worse, and leaves it as it was.
    let wild = config.with_learning_rate(Some(30.0.into())).with_epochs(1);
    let wild = run(wild, &train, &valid);
    assert!(wild.is_worse(), "{:?}", wild.comparison);
    let scales = |model: &Llama| {
        let layer = &model.model.layers[0].as_ref().unwrap().mlp.up_proj;
        layer.weight.base().into_data()
    };
    assert_eq!(scales(&wild.model), scales(&loaded.model));
}

#[test]
fn a_full_precision_model_is_not_tuned() {
    let (mut loaded, examples) = packed();
    loaded.schemes = None;
    let device = Device::flex();
    let result = tune(
        &loaded,
        &examples,
        &examples,
        &TuneConfig::new(),
        &device,
        None,
        &mut |_| Ok(()),
    );
    let error = result.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("tiny-stories: is not packed"), "{error}");
}
