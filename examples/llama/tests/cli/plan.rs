//! `llama plan`, and the plan that `llama quantize` begins with.

use super::{bundled, fails, round, succeeds};
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
        // In memory, since no budget is given: 4160 windows of 2048 tokens.
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
    assert!(lacking.contains("block-ap would take"), "{lacking}");
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
