//! `llama plan`, and the plan that `llama quantize` begins with.

use super::{bundled, fails, llama, quantize, round, succeeds, text};
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_plan_without_weights() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
        "torch_dtype": "bfloat16",
    });
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let model = dir.path().to_str().unwrap();
    let out = succeeds(&["plan", "--model", model]);
    for part in [
        "preset paper by size",
        "there are no weights",
        "32 blocks, 6.738 billion parameters; 13.48 GB in files, 2.37 GB packed, 5.68 times smaller",
        "most in block-ap: ",
        "131072",
        // 4160 windows of 2048 tokens, most of them on disk.
        "activations of all samples",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    // Quantizing needs them.
    let error = fails(&["quantize", "--model", model, "--ignore-plan"]);
    assert!(error.contains("model.safetensors"), "{error}");

    let out = succeeds(&[
        "plan",
        "--model",
        model,
        "--json",
        "--memory",
        "8GB",
        "--recompute",
        "--calibration",
        "text.txt",
    ]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    let phases: Vec<&str> = plan["totals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| phase["phase"].as_str().unwrap())
        .collect();
    assert_eq!(
        phases,
        ["full-precision", "rtn", "block-ap", "e2e-qp", "save"]
    );
    assert_eq!(plan["plan"]["params"], 6_738_415_616u64);
    let lacking = plan["does_not_fit"].as_str().unwrap();
    assert!(lacking.contains("e2e-qp would take"), "{lacking}");
    assert!(plan["seconds"].is_null());
}

#[test]
fn a_plan_of_the_bundled_model() {
    let model = bundled();
    let model = model.to_str().unwrap();
    let flags = [
        "plan",
        "--model",
        model,
        "--scheme",
        "w4g32",
        "--method",
        "block-ap",
        "--measure",
    ];
    let out = succeeds(&flags);
    assert!(
        out.contains("preset small by size") && out.contains("\ntime: block-ap "),
        "{out}"
    );
    assert!(!out.contains("e2e-qp   "), "{out}");
    for (flags, part) in [
        (&["plan", "--model", "no/such/model"][..], "config.json"),
        (
            &["plan", "--model", model, "--scheme", "w2g100"],
            "_proj.weight",
        ),
        (
            &["plan", "--model", model, "--train-size", "0"],
            "--train-size is 0",
        ),
        (
            &["plan", "--model", model, "--memory", "much"],
            "is no size",
        ),
    ] {
        let error = fails(flags);
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let error = fails(&round(&["--memory", "1MB"]));
    assert!(error.contains("of memory, and there is 1.00 MB"), "{error}");
    assert!(error.contains("--ignore-plan"), "{error}");
    succeeds(&round(&["--memory", "1MB", "--ignore-plan"]));
}

/// A text may have fewer windows than were asked for: what is planned is what it has, once it is read.
#[test]
fn a_text_is_counted_before_a_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (short, output) = (dir.path().join("short.txt"), dir.path().join("packed"));
    let story = fs::read_to_string(bundled().join("../eval.txt")).unwrap();
    let story: String = story.chars().take(4000).collect();
    fs::write(&short, story).unwrap();
    // A hundred million windows in memory are some terabytes.
    let many = [
        "--method",
        "block-ap",
        "--train-size",
        "100000000",
        "--val-size",
        "4",
        "--seq-len",
        "32",
        "--epochs",
        "1",
        "--calibration",
        text(&short),
        "--output",
        text(&output),
    ];
    let with = |command: &str, more: &[&str]| {
        let mut arguments = vec![command.to_string()];
        arguments.extend(many.iter().chain(more).map(ToString::to_string));
        arguments
    };
    let refused = with("quantize", &["--memory", "1MB"]);
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    let error = fails(&refused);
    assert!(error.contains("of memory, and there is 1.00 MB"), "{error}");
    // So other flags can be tried.
    assert!(!dir.path().join("packed.run").exists());
    let planned = with("plan", &[]);
    let planned: Vec<&str> = planned.iter().map(String::as_str).collect();
    let out = succeeds(&planned);
    assert!(
        out.contains("these are the sizes asked for") && out.contains("it does not fit here"),
        "{out}"
    );
    let begun = with("quantize", &["--memory", "2GB"]);
    let begun: Vec<&str> = begun.iter().map(String::as_str).collect();
    assert!(succeeds(&begun).contains("saved to"));
}

/// A run that goes on has its windows, and its settings.
#[test]
fn a_run_that_goes_on_is_planned_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let phases = |out: &str| {
        let plan: Value = serde_json::from_str(out).unwrap();
        let totals = plan["totals"].as_array().unwrap().clone();
        let names = totals.iter().map(|phase| phase["phase"].to_string());
        names.collect::<Vec<_>>()
    };
    let writes = "\"calibration\"".to_string();
    let arguments = quantize(&["--json"]);
    let fresh = [&["plan"], &arguments[1..]].concat();
    assert!(phases(&succeeds(&fresh)).contains(&writes));

    succeeds(&quantize(&["--run", text(&run)]));
    let resumed = ["plan", "--resume", text(&run), "--json"];
    assert!(!phases(&succeeds(&resumed)).contains(&writes));
    // What would help cannot be changed any more.
    let error = fails(&["quantize", "--resume", text(&run), "--memory", "1MB"]);
    assert!(error.contains("no option makes it fit"), "{error}");
    let output = llama(&["quantize", "--resume", text(&run)]);
    assert!(output.status.success());
}

/// Of a run whose windows are kept, the file that they came from is not needed.
#[test]
fn kept_windows_need_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (run, tokens) = (
        dir.path().join("run"),
        dir.path().join("tokens.safetensors"),
    );
    super::token_file(&tokens, 5);
    let sizes = [
        "--train-size",
        "2",
        "--val-size",
        "1",
        "--epochs",
        "1",
        "--batch-size",
        "2",
    ];
    let mut arguments = vec!["quantize", "--method", "block-ap", "--run", text(&run)];
    arguments.extend(sizes);
    arguments.extend(["--calibration-tokens", text(&tokens)]);
    succeeds(&arguments);
    fs::remove_file(&tokens).unwrap();
    succeeds(&["plan", "--resume", text(&run)]);
    succeeds(&["quantize", "--resume", text(&run)]);
}

/// What is measured by block has its hidden states where it is said.
#[test]
fn an_evaluation_has_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&round(&["--cache-dir", text(dir.path())]));
}
