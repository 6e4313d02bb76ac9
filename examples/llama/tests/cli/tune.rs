//! `llama tune`, and the adapters that it makes.

use super::{bundled, command, fails, json, round, succeeds, text};
use serde_json::{Value, json as value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;

/// A directory with a packed model, and conversations about the bundled stories.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.quantize("packed", "w4g64");
        let stories = fs::read_to_string(bundled().join("../eval.txt")).unwrap();
        let stories: Vec<&str> = stories.split("<|endoftext|>").map(str::trim).collect();
        let records = stories.iter().take(24).map(|story| {
            let name = story.split_whitespace().nth(4).unwrap_or("day");
            value!({"instruction": format!("Tell of a {name}."), "input": "", "output": story})
        });
        let records: Vec<Value> = records.collect();
        fs::write(place.path("data.json"), Value::from(records).to_string()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn quantize(&self, name: &str, scheme: &str) {
        let output = self.path(name);
        succeeds(&round(&["--output", text(&output), "--scheme", scheme]));
    }

    pub fn tune(&self, more: &[&str]) -> Vec<String> {
        let (model, data) = (self.path("packed"), self.path("data.json"));
        let flags = ["tune", "--model", text(&model), "--data", text(&data)];
        let small = ["--seq-len", "96", "--batch-size", "4", "--val-size", "4"];
        let all = flags.iter().chain(&small).chain(more);
        all.map(|flag| flag.to_string()).collect()
    }
}

fn run(flags: &[String]) -> String {
    succeeds(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn refused(flags: &[String]) -> String {
    fails(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_model_is_tuned_and_its_step_sizes_go_where_the_model_goes() {
    let place = Place::new();
    let (adapter, output) = (place.path("a.safetensors"), place.path("tuned"));
    let report = place.path("report.json");
    let targets = ["--adapter", text(&adapter), "--output", text(&output)];
    let flags = [&targets[..], &["--report", text(&report), "--lr", "5e-5"]].concat();
    let said = run(&place.tune(&flags));
    assert!(said.contains("24 conversations: 20 to train on"), "{said}");
    assert!(said.contains("w4g64, in the Alpaca prompt"), "{said}");
    let report = json(&report);
    let loss = |name: &str| report[name].as_f64().unwrap();
    assert!(loss("loss_after") < loss("loss_before"), "{report}");
    assert_eq!(loss("learning_rate"), 5e-5);
    let bytes = fs::metadata(&adapter).unwrap().len();
    assert_eq!(report["adapter_bytes"].as_u64(), Some(bytes));
    assert_eq!(report["conversations"]["valid"], 4);
    assert_eq!(report["settings"]["batch_size"], 4);

    // The base with the adapter is the tuned model, in every command.
    let base = place.path("packed");
    let with = ["--model", text(&base), "--adapter", text(&adapter)];
    let tuned = ["--model", text(&output)];
    let eval = |model: &[&str]| succeeds(&[&["eval", "--seq-len", "64"], model].concat());
    assert_eq!(eval(&with), eval(&tuned));
    assert_ne!(eval(&with), eval(&["--model", text(&base)]));
    let say = ["--instruction", "Tell of a dog.", "--max-new-tokens", "12"];
    let generate = |model: &[&str]| succeeds(&[&["generate"], &say[..], model].concat());
    assert_eq!(generate(&with), generate(&tuned));
    assert!(!generate(&with).contains("Instruction"));
    let export = |name: &str, model: &[&str]| {
        let path = place.path(name);
        let to = ["export", "--format", "gguf", "--output", text(&path)];
        succeeds(&[&to[..], model].concat());
        fs::read(path).unwrap()
    };
    // A file has the name of the model's folder in it.
    let named = place.path("named/packed");
    fs::create_dir(place.path("named")).unwrap();
    fs::rename(&output, &named).unwrap();
    let tuned = ["--model", text(&named)];
    assert!(export("with.gguf", &with) == export("tuned.gguf", &tuned));
    let chat = |model: &[&str]| {
        let flags = [
            &["chat", "--temperature", "0", "--max-new-tokens", "8"],
            model,
        ]
        .concat();
        let mut chat = command(&flags);
        let chat = chat
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut chat = chat.spawn().unwrap();
        let mut input = chat.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"Tell of a dog.\nGo on.\n").unwrap();
        drop(input);
        let output = chat.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    // Without a template of its own, a model is talked to in the prompt that it was tuned in.
    assert!(chat(&with).lines().count() >= 2);

    // Another base, and none at all.
    place.quantize("other", "w2g64");
    let other = place.path("other");
    let error = fails(&["eval", "--model", text(&other), "--adapter", text(&adapter)]);
    assert!(
        error.contains("a.safetensors: is an adapter of another packed model"),
        "{error}"
    );
    assert!(
        error.contains("is packed in w2g64, expected w4g64"),
        "{error}"
    );
    let full = bundled();
    let error = fails(&["eval", "--model", text(&full), "--adapter", text(&adapter)]);
    assert!(error.contains("no packed weights"), "{error}");
    let error = refused(&place.tune(&["--adapter", text(&adapter)]));
    assert!(
        error.contains("a.safetensors: exists (replace it with --force)"),
        "{error}"
    );
}

#[test]
fn chats_are_tuned_in_the_template_of_the_model() {
    let place = Place::new();
    let base = place.path("packed");
    let template = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}\
        {% if add_generation_prompt %}<s>assistant: {% endif %}";
    fs::write(base.join("chat_template.jinja"), template).unwrap();
    let lines = (0..12).map(|i| {
        let ask = format!("Say it {i} times.");
        let messages = value!([
            {"role": "user", "content": ask}, {"role": "assistant", "content": "The duck was happy."},
            {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "It had a boat."},
        ]);
        value!({"messages": messages}).to_string()
    });
    let lines: Vec<String> = lines.collect();
    fs::write(place.path("data.json"), lines.join("\n")).unwrap();
    for packing in [false, true] {
        let adapter = place.path(&format!("{packing}.safetensors"));
        let mut flags = place.tune(&["--adapter", text(&adapter), "--lr", "1e-4", "--epochs", "2"]);
        if packing {
            flags.push("--packing".to_string());
        }
        let said = run(&flags);
        assert!(said.contains("in the model's chat template"), "{said}");
        assert_eq!(said.contains(" windows"), packing, "{said}");
        assert!(adapter.exists());
    }
}

/// A run that was stopped goes on with the flags and the conversations that it began with, and with no others.
#[test]
fn a_tuning_goes_on_as_it_began() {
    let place = Place::new();
    let (adapter, run) = (place.path("a.safetensors"), place.path("a.safetensors.run"));
    let begin = place.tune(&["--adapter", text(&adapter), "--lr", "5e-5"]);
    let mut child = command(&begin.iter().map(String::as_str).collect::<Vec<_>>());
    let child = child.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().unwrap();
    let kept = || {
        fs::read_to_string(run.join("run.json")).is_ok_and(|run| run.contains("\"conversations\""))
    };
    while !kept() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let error = refused(&begin);
    assert!(
        error.contains("a.safetensors.run: holds a run already"),
        "{error}"
    );
    let resume = ["tune", "--resume", text(&run)];
    let error = fails(&[&resume[..], &["--batch-size", "8"]].concat());
    assert!(
        error.contains("--batch-size is 8, but the run began with 4"),
        "{error}"
    );
    let error = fails(&["quantize", "--resume", text(&run)]);
    assert!(error.contains("expected one of llama quantize"), "{error}");

    // What the conversations are is kept.
    fs::remove_file(place.path("data.json")).unwrap();
    let said = succeeds(&[&resume[..], &["--batch-size", "4"]].concat());
    assert!(said.contains("20 to train on"), "{said}");
    assert!(adapter.exists() && !run.exists());
}

#[test]
fn what_cannot_be_tuned_is_refused_at_once() {
    let place = Place::new();
    let adapter = place.path("a.safetensors");
    let tune = |more: &[&str]| {
        let flags = [&["--adapter", text(&adapter)], more].concat();
        refused(&place.tune(&flags))
    };
    for (more, expected) in [
        (&["--epochs", "0"][..], "--epochs is 0"),
        (&["--lr", "-1"], "--lr is -1"),
        (
            &["--train-size", "100"],
            "has 20 conversations to train on, expected 100",
        ),
        (&["--recompute", "--grad-accum", "0"], "--grad-accum is 0"),
    ] {
        let error = tune(more);
        assert!(error.contains(expected), "{error}");
    }
    let flags = |data: &Path, model: &Path| {
        let flags = ["tune", "--model", text(model), "--data", text(data)];
        let more = ["--adapter", text(&adapter), "--val-size", "1"];
        fails(&[&flags[..], &more].concat())
    };
    let (data, base) = (place.path("data.json"), place.path("packed"));
    let error = flags(&data, &bundled());
    assert!(error.contains("tiny-stories: is not packed"), "{error}");
    let broken = place.path("broken.jsonl");
    fs::write(
        &broken,
        "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"text\": \"c\"}\n",
    )
    .unwrap();
    let error = flags(&broken, &base);
    assert!(
        error.contains("broken.jsonl: line 2: expected an object"),
        "{error}"
    );
    fs::write(&broken, "{\"instruction\": \"a\", \"output\": \"b\"}\n").unwrap();
    let error = flags(&broken, &base);
    assert!(error.contains("has 1 conversations"), "{error}");
    let error = fails(&["tune", "--model", text(&base), "--data", text(&data)]);
    assert!(
        error.contains("--adapter") || error.contains("--output"),
        "{error}"
    );
    let lost = place.path("no/such/a.safetensors");
    let error = refused(&place.tune(&["--adapter", text(&lost)]));
    assert!(error.contains("no/such"), "{error}");
    assert!(!adapter.exists());
}
