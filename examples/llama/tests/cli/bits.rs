//! Bits of each weight by a budget.

use super::{fails, json, quantize, succeeds, text};

#[test]
fn a_budget_gives_some_weights_more_bits() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let table = succeeds(&quantize(&[
        "--bits-budget",
        "2.7",
        "--report",
        text(&report),
    ]));
    assert!(table.contains("bits by budget: "), "{table}");
    let report = json(&report);
    let stages = report["stages"].as_array().unwrap();
    let bits = stages.last().unwrap()["bits_per_weight"].as_f64().unwrap();
    assert!((2.5..=2.7).contains(&bits), "{bits}");
    let overrides = report["settings"]["overrides"].as_array().unwrap();
    assert!(!overrides.is_empty());
}

#[test]
fn a_budget_that_is_too_small_is_refused() {
    let stderr = fails(&quantize(&["--bits-budget", "2.1"]));
    assert!(stderr.contains("w2g64 alone takes 2.281"), "{stderr}");
    let stderr = fails(&quantize(&["--bits-budget", "-1"]));
    assert!(stderr.contains("--bits-budget"), "{stderr}");
}
