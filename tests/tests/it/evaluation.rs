//! Perplexity and multiple choice, against what lm-evaluation-harness and the literature's code give for the same
//! model.

use burn::tensor::Device;
use burn_eqat::lm::{LmError, TokenWindows, perplexity};
use burn_eqat_tests::{data, fixtures};
use llama::LoadedLlama;
use llama::choices::{Estimate, Prompts, Scorer, read_questions, score};
use llama::protocol::Protocol;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Fixture {
    model: PathBuf,
    protocols: Vec<Windows>,
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Windows {
    protocol: String,
    file: PathBuf,
    seq_len: usize,
    windows: usize,
    tokens: String,
    first_windows: usize,
    perplexity: f64,
}

#[derive(Deserialize)]
struct Task {
    file: PathBuf,
    questions: usize,
    shots: usize,
    acc: f64,
    acc_stderr: f64,
    acc_norm: Option<f64>,
    acc_norm_stderr: Option<f64>,
    log_likelihoods: Vec<Vec<f64>>,
}

fn fixture() -> Fixture {
    let path = fixtures().join("evaluation/evaluation.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn go_on(_: usize, _: usize) -> Result<(), LmError> {
    Ok(())
}

/// As the fixtures' README says.
fn fingerprint(windows: &TokenWindows) -> String {
    let bytes = windows.tokens().iter().flat_map(|t| t.to_le_bytes());
    let state = bytes.fold(0xcbf2_9ce4_8422_2325u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{state:016x}")
}

#[test]
fn perplexities_are_those_of_the_literature() {
    let Some(data) = data() else { return };
    let (fixture, device) = (fixture(), Device::flex());
    let loaded = LoadedLlama::open(&data.join(&fixture.model), &device).unwrap();
    let tokenizer = loaded.tokenizer().unwrap();
    let bos = loaded.config.special_tokens().bos;
    for expected in &fixture.protocols {
        let name = &expected.protocol;
        let protocol = match name.as_str() {
            "wikitext2" => Protocol::Wikitext2,
            "c4" => Protocol::C4,
            _ => panic!("unknown protocol {name}"),
        };
        let path = data.join("text").join(&expected.file);
        let windows = protocol.windows(&path, &tokenizer, bos, expected.seq_len);
        let windows = windows.unwrap();
        assert_eq!(windows.len(), expected.windows, "{name}");
        assert_eq!(fingerprint(&windows), expected.tokens, "{name}");
        let first = windows.range(0..expected.first_windows);
        let value = perplexity(&loaded.model, &first, &device, &mut go_on).unwrap();
        let error = (value / expected.perplexity - 1.0).abs();
        assert!(
            error < 1e-4,
            "{name}: {value} is not {}",
            expected.perplexity
        );
    }
    // Nothing is long enough.
    let short = data.join("eval/copa.jsonl");
    let error = Protocol::Wikitext2.windows(&short, &tokenizer, bos, 256);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("copa.jsonl: line 1")
    );
}

#[test]
fn accuracies_are_those_of_the_harness() {
    let Some(data) = data() else { return };
    let (fixture, device) = (fixture(), Device::flex());
    let loaded = LoadedLlama::open(&data.join(&fixture.model), &device).unwrap();
    let scorer = Scorer::new(&loaded, &device).unwrap();
    for expected in &fixture.tasks {
        let name = format!("{} with {} shots", expected.file.display(), expected.shots);
        let questions = read_questions(&data.join("eval").join(&expected.file)).unwrap();
        let prompts = Prompts::new(&questions, expected.shots).unwrap();
        for (question, expected) in questions.iter().zip(&expected.log_likelihoods) {
            let sums = scorer
                .log_likelihoods(&prompts.of(question), &mut go_on)
                .unwrap();
            assert_eq!(sums.len(), expected.len(), "{name}");
            for (sum, expected) in sums.iter().zip(expected) {
                assert!(
                    (sum - expected).abs() < 2e-3,
                    "{name}: {sum} is not {expected}"
                );
            }
        }
        let limit = Some(expected.questions);
        let score = score(&scorer, &questions, expected.shots, limit, &mut go_on).unwrap();
        assert_eq!(score.questions, expected.questions, "{name}");
        same(&name, score.acc, expected.acc, expected.acc_stderr);
        if let (Some(acc), Some(stderr)) = (expected.acc_norm, expected.acc_norm_stderr) {
            same(&name, score.acc_norm.unwrap(), acc, stderr);
        }
    }
}

fn same(name: &str, estimate: Estimate, mean: f64, stderr: f64) {
    assert!(
        (estimate.mean - mean).abs() < 1e-9,
        "{name}: {estimate:?} is not {mean}"
    );
    let found = estimate.stderr.unwrap();
    assert!(
        (found - stderr).abs() < 1e-9,
        "{name}: {estimate:?} is not +- {stderr}"
    );
}
