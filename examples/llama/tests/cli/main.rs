//! The command line as a user meets it, on the bundled model.

mod bits;
mod plan;
mod resume;
mod tune;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn llama(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama"));
    command.args(args);
    command
}

fn succeeds(args: &[&str]) -> String {
    let output = llama(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that has to fail.
fn fails(args: &[&str]) -> String {
    let output = llama(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    stderr
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-stories")
}

/// A job so small that it takes seconds.
const SMALL: [&str; 12] = [
    "--train-size",
    "8",
    "--val-size",
    "4",
    "--e2e-size",
    "8",
    "--seq-len",
    "32",
    "--epochs",
    "1",
    "--e2e-batch",
    "4",
];

fn quantize<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["quantize"]
        .into_iter()
        .chain(SMALL)
        .chain(more.iter().copied())
        .collect()
}

/// No training at all.
fn round<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let small = ["quantize", "--method", "rtn", "--seq-len", "32"];
    [&small, more].concat()
}

/// E2E-QP alone, of a model that is packed.
fn tune<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let small = ["quantize", "--seq-len", "32", "--val-size", "4"];
    let phase = ["--e2e-size", "8", "--e2e-batch", "4"];
    [&small, &phase[..], more].concat()
}

/// All phases on the device that Burn's `BURN_DEVICE` names end where Flex does, within 1 %.
#[test]
fn another_device_ends_where_flex_does() {
    let Ok(device) = std::env::var("BURN_DEVICE") else {
        println!("skipped: BURN_DEVICE names no device");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // A part of the bundled text: what takes time on these devices is the number of kernels.
    let stories = fs::read_to_string(bundled().join("../eval.txt")).unwrap();
    let few = dir.path().join("few.txt");
    fs::write(&few, &stories[..stories.len() / 8]).unwrap();
    let perplexities = |device: &str| -> Vec<f64> {
        let report = dir.path().join(format!("{device}.json"));
        succeeds(&quantize(&[
            "--device",
            device,
            "--eval-text",
            text(&few),
            "--report",
            text(&report),
            "--batch-size",
            "4",
            // Both phases end to end; the first as gently as does not make codes depend on rounding.
            "--e2e-ap-lr",
            "1e-5",
            "--e2e-ap-quant-lr",
            "1e-5",
            "--e2e-epochs",
            "1",
        ]));
        let report = json(&report);
        let stages = report["stages"].as_array().unwrap();
        stages
            .iter()
            .map(|s| s["perplexity"].as_f64().unwrap())
            .collect()
    };
    let (here, flex) = (perplexities(&device), perplexities("flex"));
    println!("{device}: {here:?}, flex: {flex:?}");
    assert_eq!((here.len(), flex.len()), (5, 5));
    for (here, flex) in here.iter().zip(&flex) {
        assert!((here / flex - 1.0).abs() < 0.01, "{here} is not {flex}");
    }
}

/// A device that the machine does not have is an error that says so.
#[test]
fn another_device_that_is_not_there_is_named() {
    if std::env::var("BURN_DEVICE").as_deref() != Ok("wgpu") {
        println!("skipped: BURN_DEVICE is not wgpu");
        return;
    }
    let error = fails(&["quantize", "--device", "wgpu:discrete:99"]);
    assert!(error.contains("cannot open wgpu:discrete:99"), "{error}");
}

/// Both phases in half precision end where f32 does, within 2 %, with the tables as the file has them.
#[test]
fn half_precision_ends_where_f32_does() {
    let dir = tempfile::tempdir().unwrap();
    let stories = fs::read_to_string(bundled().join("../eval.txt")).unwrap();
    let few = dir.path().join("few.txt");
    fs::write(&few, &stories[..stories.len() / 8]).unwrap();
    // With so little training, 2-bit codes that round differently move the result by more than the types do.
    let (report, scheme) = (dir.path().join("report.json"), ["--scheme", "w4g64"]);
    let flags = ["--eval-text", text(&few), "--report", text(&report)];
    let flags = [&flags[..], &scheme].concat();
    let perplexities = |dtype: &str, arguments: Vec<&str>| -> Vec<f64> {
        succeeds(&arguments);
        let report = json(&report);
        assert_eq!(report["settings"]["dtype"], *dtype);
        let stages = report["stages"].as_array().unwrap();
        let perplexities = stages.iter().map(|s| s["perplexity"].as_f64().unwrap());
        perplexities.collect()
    };
    let packed = dir.path().join("packed");
    // Left out, it is f32 on a CPU.
    let more = ["--output", text(&packed)];
    let expected = perplexities("f32", quantize(&[&flags[..], &more].concat()));
    assert_eq!(expected.len(), 4);
    let with = |more: &[&'static str]| [&flags[..], more].concat();
    let bf16 = with(&["--dtype", "bf16", "--recompute"]);
    // Without loss scaling, f16 is not for training.
    let f16 = with(&["--dtype", "f16"]);
    for (dtype, arguments, stages) in [("bf16", quantize(&bf16), 4), ("f16", round(&f16), 2)] {
        let actual = perplexities(dtype, arguments);
        println!("{dtype}: {actual:?}, f32: {expected:?}");
        assert_eq!(actual.len(), stages);
        assert_ne!(actual, expected[..stages], "{dtype} is f32");
        for (actual, expected) in actual.iter().zip(&expected) {
            let off = (actual / expected - 1.0).abs();
            assert!(off < 0.02, "{dtype}: {actual} is not {expected}");
        }
    }

    // What is packed runs in it too.
    let eval = |dtype: &str| {
        let model = ["eval", "--model", text(&packed), "--text", text(&few)];
        let flags = ["--dtype", dtype, "--report", text(&report)];
        succeeds(&[&model[..], &flags].concat());
        assert_eq!(json(&report)["dtype"], *dtype);
        json(&report)["perplexity"].as_f64().unwrap()
    };
    let (half, wide) = (eval("bf16"), eval("f32"));
    assert!(
        half != wide && (half / wide - 1.0).abs() < 0.01,
        "{half} {wide}"
    );
    let prompt = ["--prompt", "Once upon a time", "--max-new-tokens", "4"];
    let generate = ["generate", "--model", text(&packed), "--dtype", "bf16"];
    assert!(succeeds(&[&generate[..], &prompt].concat()).len() > 16);
    let stderr = fails(&["eval", "--model", text(&packed), "--dtype", "f64"]);
    assert!(
        stderr.contains("unknown compute type \"f64\": expected f32, bf16 or f16"),
        "{stderr}"
    );
}

#[test]
fn quantize_eval_generate() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, report) = (dir.path().join("packed"), dir.path().join("report.json"));
    let table = succeeds(&quantize(&[
        "--output",
        text(&packed),
        "--report",
        text(&report),
    ]));
    let report = json(&report);
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["full-precision", "rtn", "block-ap", "e2e-ap"]);
    assert!(names.iter().all(|name| table.contains(name)), "{table}");
    assert_eq!(report["scheme"], "w2g64");
    assert_eq!(report["settings"]["train_size"], 8);
    let number = |stage: usize, field: &str| stages[stage][field].as_f64().unwrap();
    assert_eq!(number(3, "bits_per_weight"), 2.0 + 18.0 / 64.0);
    assert!(number(3, "bytes") < 0.35 * number(0, "bytes"));
    assert!(number(2, "perplexity") < number(1, "perplexity"));
    assert!(number(3, "seconds") > 0.0 && number(3, "peak_rss_mb") > 0.0);

    // A process of its own measures the same on the saved files.
    let again = dir.path().join("eval.json");
    let eval = [
        "eval",
        "--model",
        text(&packed),
        "--seq-len",
        "32",
        "--report",
        text(&again),
    ];
    succeeds(&eval);
    assert_eq!(json(&again)["perplexity"], stages[3]["perplexity"]);
    assert_eq!(json(&again)["scheme"], "w2g64");
    // An output layer in 8 bits is almost as good.
    succeeds(&[&eval[..], &["--head-scheme", "w8g64"]].concat());
    let rounded = json(&again);
    assert_eq!(rounded["head_scheme"], "w8g64");
    let ratio = rounded["perplexity"].as_f64().unwrap() / number(3, "perplexity");
    assert!((ratio - 1.0).abs() < 0.01 && ratio != 1.0, "{ratio}");

    let written = dir.path().join("text.json");
    let generate = [
        "generate",
        "--model",
        text(&packed),
        "--prompt",
        "Once upon a time",
        "--max-new-tokens",
        "12",
        "--temperature",
        "0.7",
        "--top-p",
        "0.9",
        "--seed",
        "3",
        "--report",
        text(&written),
    ];
    let printed = succeeds(&generate);
    let written = json(&written);
    let story = written["text"].as_str().unwrap();
    assert!(story.starts_with("Once upon a time"), "{story}");
    assert_eq!(printed.trim_end(), story.trim_end());
    assert!(written["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(
        succeeds(&generate),
        printed,
        "the same seed writes the same text"
    );

    // What is there is not overwritten unless asked.
    let rtn = round(&["--output", text(&packed)]);
    assert!(fails(&rtn).contains("not empty"));
    succeeds(&[rtn.as_slice(), &["--force"]].concat());
    let files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(
        files.iter().all(|f| !text(f).contains(".eqat-")),
        "{files:?}"
    );

    // A packed model is only trained on, in its own scheme.
    let again = round(&["--model", text(&packed)]);
    assert!(fails(&again).contains("packed already (w2g64)"));
    let again = tune(&["--model", text(&packed), "--scheme", "w4g64"]);
    assert!(fails(&again).contains("is packed in w2g64"));
    let again = quantize(&["--model", text(&packed)]);
    assert!(
        fails(&again)
            .contains("is packed already (w2g64), expected full precision for --train-size")
    );
    let tuned = dir.path().join("tuned");
    let report = dir.path().join("tuned.json");
    let by_blocks = [
        "--recompute",
        "--grad-accum",
        "2",
        "--report",
        text(&report),
    ];
    let again = tune(&["--model", text(&packed), "--output", text(&tuned)]);
    let table = succeeds(&[again.as_slice(), &by_blocks].concat());
    let settings = &json(&report)["settings"];
    assert_eq!(settings["grad_accum"], 2);
    assert_eq!(settings["recompute"], true);
    assert!(
        table.contains("packed ") && table.contains("e2e-qp"),
        "{table}"
    );
    assert!(tuned.join("model.safetensors").exists());
    // One block in memory at a time, it learns the same.
    let offloaded = dir.path().join("offloaded");
    let other = dir.path().join("offloaded.json");
    let offload = ["--offload", "--grad-accum", "2", "--report", text(&other)];
    let again = tune(&["--model", text(&packed), "--output", text(&offloaded)]);
    succeeds(&[again.as_slice(), &offload].concat());
    assert!(offloaded.join("model.safetensors").exists());
    assert!(!dir.path().join("offloaded.run").exists());
    let last = |report: &Path| {
        let stages = json(report)["stages"].as_array().unwrap().clone();
        let last = stages.last().unwrap();
        (last["perplexity"].as_f64().unwrap(), last["bytes"].clone())
    };
    let ((expected, bytes), (found, found_bytes)) = (last(&report), last(&other));
    assert!(
        (expected - found).abs() < 1e-4 * expected,
        "{expected} {found}"
    );
    assert_eq!(bytes, found_bytes);

    exports_run_elsewhere(dir.path(), &packed);
}

/// GPTQ and dense directories have the packed model's perplexity to the digit; a GGUF file is whole.
fn exports_run_elsewhere(dir: &Path, packed: &Path) {
    let perplexity = |model: &Path| {
        let report = dir.join("report.json");
        let arguments = [
            "--model",
            text(model),
            "--seq-len",
            "32",
            "--report",
            text(&report),
        ];
        succeeds(&[["eval"].as_slice(), &arguments].concat());
        json(&report)["perplexity"].as_f64().unwrap()
    };
    let export = |format: &str, more: &[&str]| {
        let output = dir.join(format);
        let arguments = ["export", "--model", text(packed), "--format", format];
        let arguments = [&arguments, more, &["--output", text(&output)]].concat();
        succeeds(&arguments);
        assert!(fails(&arguments).contains("--force"), "{format}");
        succeeds(&[arguments.as_slice(), &["--force"]].concat());
        output
    };
    let expected = perplexity(packed);
    let gptq = export("gptq", &[]);
    assert_eq!(
        json(&gptq.join("quantize_config.json"))["checkpoint_format"],
        "gptq_v2"
    );
    assert!(gptq.join("tokenizer.json").exists());
    assert_eq!(perplexity(&gptq), expected);
    let dense = perplexity(&export("dense", &["--dtype", "f32"]));
    assert!(
        (dense / expected - 1.0).abs() < 1e-5,
        "{dense} is not {expected}"
    );
    let gguf = fs::read(export("gguf", &[])).unwrap();
    assert_eq!(&gguf[..8], b"GGUF\x03\0\0\0");

    // A model without a chat template is none to talk to.
    assert!(fails(&["chat", "--model", text(packed)]).contains("chat_template"));
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    fs::write(packed.join("chat_template.jinja"), template).unwrap();
    let mut chat = command(&["chat", "--model", text(packed), "--temperature", "0"]);
    chat.args(["--max-new-tokens", "8"]);
    chat.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut chat = chat.spawn().unwrap();
    std::io::Write::write_all(&mut chat.stdin.take().unwrap(), b"Once upon a time\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    assert!(output.status.success() && !output.stdout.trim_ascii().is_empty());
}

#[test]
fn the_bundled_model_tells_a_story() {
    let story = succeeds(&[
        "generate",
        "--prompt",
        "Once upon a time",
        "--max-new-tokens",
        "40",
    ]);
    assert!(story.starts_with("Once upon a time"), "{story}");
    let words: Vec<&str> = story.split_whitespace().collect();
    assert!(words.len() > 20 && story.contains(". "), "{story}");
}

#[test]
fn questions_are_scored() {
    let dir = tempfile::tempdir().unwrap();
    let (choices, pairs) = (
        dir.path().join("choices.jsonl"),
        dir.path().join("pairs.jsonl"),
    );
    let lines = [
        json!({"query": "Once upon a", "choices": ["xq zv 77 kk", "time"], "gold": 1}),
        json!({"query": "The little girl was very", "choices": ["happy.", "of of the"], "gold": 0}),
    ];
    fs::write(&choices, lines.map(|l| l.to_string()).join("\n")).unwrap();
    let pair = json!({
        "sentence_good": "She went to the park.", "sentence_bad": "Went park the to she.",
    });
    fs::write(&pairs, pair.to_string()).unwrap();
    let report = dir.path().join("report.json");
    let model = bundled();
    succeeds(&[
        "eval",
        "--model",
        text(&model),
        "--choices",
        text(&choices),
        text(&pairs),
        "--report",
        text(&report),
    ]);
    let report = json(&report);
    assert_eq!(report["choices"][0]["acc"], 1.0);
    assert_eq!(report["choices"][1]["acc"], 1.0);
    assert!(report["choices"][1]["acc_norm"].is_null());
    assert!(report["perplexity"].is_null());

    fs::write(
        &choices,
        json!({"query": "a", "choices": ["b"], "gold": 1}).to_string(),
    )
    .unwrap();
    let eval = ["eval", "--model", text(&model), "--choices", text(&choices)];
    assert!(fails(&eval).contains("line 1: gold is 1, expected less than 1"));
    fs::write(&choices, "{\"query\": 3}").unwrap();
    assert!(fails(&eval).contains("line 1: expected an object"));
}

/// Windows of tokens as the tensors that `--calibration-tokens` takes.
fn token_file(path: &Path, token: i32) {
    let window: Vec<u8> = [1i32, 40, token, 41]
        .iter()
        .flat_map(|t| t.to_le_bytes())
        .collect();
    let data = window.repeat(8);
    let views = ["calib", "val", "e2e", "eval"].map(|name| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I32, vec![8, 4], &data);
        (name, view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn wrong_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bad = |args: &[&str], expected: &str| {
        let stderr = fails(args);
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    };
    bad(&quantize(&["--scheme", "w5g64"]), "expected 2, 3, 4 or 8");
    bad(
        &quantize(&["--scheme", "int4"]),
        "expected something like w2g64",
    );
    bad(
        &quantize(&["--scheme", "w2g48"]),
        "groups of 48 do not divide the 128 input rows",
    );
    bad(
        &quantize(&["--model", "no/such/dir"]),
        "no/such/dir/config.json",
    );
    bad(&quantize(&["--calibration", "no/such.txt"]), "no/such.txt");
    bad(&quantize(&["--quant-lr", "-1"]), "--quant-lr is -1");
    bad(
        &quantize(&["--report", "no/such/dir/report.json"]),
        "report.json",
    );
    bad(&quantize(&["--html", "no/such/dir/run.html"]), "run.html");
    #[cfg(not(feature = "tui"))]
    bad(&quantize(&["--tui"]), "build with the cargo feature tui");
    bad(
        &quantize(&["--html", "run", "--report", "run"]),
        "--html and --report name the same file",
    );
    bad(&["quantize", "--batch-size", "0"], "--batch-size is 0");
    bad(&["quantize", "--seq-len", "100000"], "expected at most 512");
    bad(
        &["generate", "--prompt", "a", "--top-p", "0"],
        "--top-p is 0",
    );
    bad(
        &["generate", "--prompt", &"word ".repeat(600)],
        "expected 1 to 512",
    );
    bad(
        &["generate", "--prompt", "a", "--head-scheme", "w8g100"],
        "--head-scheme: groups of 100 do not divide",
    );

    // Learning rates that break the training: the block, the step and the rates are named.
    let broken = quantize(&["--quant-lr", "1e30", "--weight-lr", "1e30"]);
    bad(
        &broken,
        "Block-AP, block 0, step 4: the loss is NaN, with learning rate 1.89e29 (quantizer)",
    );

    let tokens = dir.path().join("tokens.safetensors");
    token_file(&tokens, 5000);
    let quantize_tokens = [
        "quantize",
        "--calibration-tokens",
        text(&tokens),
        "--train-size",
        "8",
        "--val-size",
        "8",
        "--e2e-size",
        "8",
    ];
    bad(&quantize_tokens, "token 5000 at position 2 of window 0");
    bad(&quantize_tokens, "vocabulary of 1024");
    token_file(&tokens, 42);
    bad(
        &quantize_tokens[..3],
        "tensor calib: has 8 windows, expected 256 or more",
    );
    let model = bundled();
    let eval = ["eval", "--model", text(&model), "--tokens", text(&tokens)];
    succeeds(&eval);
    let whole = fs::read(&tokens).unwrap();
    fs::write(&tokens, &whole[..whole.len() - 3]).unwrap();
    bad(&eval, "not a safetensors file");

    let empty = dir.path().join("empty.txt");
    fs::write(&empty, " \n").unwrap();
    bad(&quantize(&["--calibration", text(&empty)]), "holds no text");
    let line = dir.path().join("line.jsonl");
    fs::write(&line, "{\"text\": \"A story.\"}\n{\"no\": 1}\n").unwrap();
    bad(&quantize(&["--calibration", text(&line)]), "line 2");
}

/// A flag that would change nothing is refused by its name.
#[test]
fn settings_without_an_effect_are_refused() {
    for (arguments, expected) in [
        (
            round(&["--epochs", "2"]),
            "--epochs has no effect with --method rtn",
        ),
        (round(&["--val-size", "2"]), "--val-size has no effect"),
        (
            round(&["--cache-memory", "8GB"]),
            "--cache-memory has no effect with --method rtn",
        ),
        (
            round(&["--cache-dtype", "f32"]),
            "--cache-dtype has no effect",
        ),
        (
            quantize(&["--cache-dtype", "f32"]),
            "--cache-dtype has no effect without --cache-memory: all activations are in memory",
        ),
        (
            quantize(&["--cache-memory", "8 gigs"]),
            "\"8 gigs\" is no size: expected a number of bytes",
        ),
        (round(&["--e2e-lr", "1e-3"]), "--e2e-lr has no effect"),
        (
            round(&["--calibration", "self"]),
            "--calibration has no effect",
        ),
        (
            vec!["quantize", "--method", "block-ap", "--e2e-size", "8"],
            "--e2e-size has no effect with --method block-ap: E2E-QP does not run",
        ),
        (
            round(&["--recompute"]),
            "--recompute has no effect with --method rtn",
        ),
        (
            vec!["quantize", "--method", "block-ap", "--grad-accum", "2"],
            "--grad-accum has no effect with --method block-ap: E2E-QP does not run",
        ),
        (
            vec!["quantize", "--method", "block-ap", "--recompute"],
            "--recompute has no effect with --method block-ap: E2E-QP does not run",
        ),
        (
            vec!["quantize", "--offload"],
            "--offload needs a run directory to read blocks from: give --run or --output",
        ),
        (
            vec!["plan", "--report", "report.json"],
            "--report has no effect with llama plan: nothing is quantized",
        ),
        (
            vec!["plan", "--force"],
            "--force has no effect with llama plan",
        ),
        (vec!["plan", "--ignore-plan"], "--ignore-plan has no effect"),
        (
            round(&["--override", "down_proj"]),
            "override \"down_proj\"",
        ),
        (
            round(&["--override", "donw_proj=w4g64"]),
            "the scheme override \"donw_proj\" matches none of the selected weights",
        ),
    ] {
        let stderr = fails(&arguments);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

/// Other schemes for some weights reach the files; the report holds what was used.
#[test]
fn overrides_and_few_windows() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, report) = (dir.path().join("packed"), dir.path().join("report.json"));
    let story = dir.path().join("story.txt");
    let one = "Once upon a time, there was a little girl. She liked to play in the park.";
    fs::write(&story, vec![one; 40].join(" ")).unwrap();
    let output = llama(&[
        "quantize",
        "--calibration",
        text(&story),
        "--seq-len",
        "32",
        "--override",
        "down_proj=w4g64",
        "--epochs",
        "1",
        "--output",
        text(&packed),
        "--report",
        text(&report),
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("windows of 32 tokens; used: "), "{stderr}");
    assert!(stderr.contains("256 for Block-AP"), "{stderr}");
    let report = json(&report);
    let used = report["settings"]["train_size"].as_u64().unwrap();
    assert!(
        stderr.contains(&format!("used: {used} for Block-AP")),
        "{stderr}"
    );
    assert!(used > 0 && used < 256 && report["settings"]["rates"]["quant"] == "0.024s");
    // Of the six blocks one weight each.
    assert_eq!(report["scheme"], "w2g64 + 6 at w4g64");
    let bits = report["stages"][3]["bits_per_weight"].as_f64().unwrap();
    assert!(bits > 2.4 && bits < 4.0, "{bits}");
    let config = json(&packed.join("config.json"));
    let quantization = config["quantization_config"].to_string();
    assert!(
        quantization.contains("w4g64") && quantization.contains("w2g64"),
        "{quantization}"
    );
    let again = dir.path().join("again.json");
    let eval = ["eval", "--model", text(&packed), "--seq-len", "32"];
    succeeds(&[&eval[..], &["--report", text(&again)]].concat());
    assert_eq!(json(&again)["scheme"], report["scheme"]);
    // What goes on from it says so, too.
    let refused = fails(&round(&["--model", text(&packed)]));
    assert!(
        refused.contains("is packed already (w2g64 + 6 at w4g64)"),
        "{refused}"
    );
}

/// A preset gives what no flag does, within what the model takes.
#[test]
fn flags_win_over_presets() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let rates = ["--weight-lr", "1e-3", "--report", text(&report)];
    let out = succeeds(&quantize(&[&["--preset", "paper"], &rates[..]].concat()));
    assert!(
        out.contains("preset paper as given")
            && out.contains("Block-AP 8 in batches of 2, 1 epoch"),
        "{out}"
    );
    let paper = json(&report);
    let settings = &paper["settings"];
    assert_eq!(paper["preset"], "paper");
    for (name, expected) in [("train_size", 8), ("batch_size", 2), ("seq_len", 32)] {
        assert_eq!(settings[name], expected, "{name}");
    }
    let expected = json!({"quant": 1e-4, "weight": 1e-3, "e2e": 2e-5});
    assert_eq!(settings["rates"], expected);

    // The paper's windows are longer than this model's longest.
    let rtn = ["quantize", "--method", "rtn", "--report", text(&report)];
    for (preset, seq_len) in [("paper", 512), ("small", 256)] {
        succeeds(&[&rtn[..], &["--preset", preset]].concat());
        assert_eq!(json(&report)["settings"]["seq_len"], seq_len);
    }
    let out = succeeds(&rtn);
    assert!(out.contains("preset small by size, 1.31 million"), "{out}");
    assert!(fails(&["quantize", "--preset", "large"]).contains("[possible values: paper, small]"));
}

/// What E2E-QP made worse is shown, and not saved.
#[test]
fn a_model_that_e2e_qp_made_worse_is_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, report) = (dir.path().join("packed"), dir.path().join("report.json"));
    let wild = ["--e2e-lr", "0.03", "--report", text(&report)];
    let e2e_qp = ["--output", text(&packed), "--e2e-ap-epochs", "0"];
    let out = succeeds(&quantize(&[&e2e_qp[..], &wild].concat()));
    assert!(
        out.contains("E2E-QP made the model worse") && out.contains("kept is that of block-ap"),
        "{out}"
    );
    let said = json(&report);
    assert_eq!(said["kept"], "block-ap");
    let losses = &said["stages"][3]["comparison"];
    assert!(
        losses["after"].as_f64() > losses["before"].as_f64(),
        "{losses}"
    );
    let eval = ["eval", "--model", text(&packed), "--seq-len", "32"];
    let again = dir.path().join("eval.json");
    succeeds(&[&eval[..], &["--report", text(&again)]].concat());
    assert_eq!(json(&again)["perplexity"], said["stages"][2]["perplexity"]);

    // Of a packed model, it is saved as it came.
    let same = dir.path().join("same");
    let model = ["--model", text(&packed), "--output", text(&same)];
    let out = succeeds(&tune(&[&model[..], &wild].concat()));
    assert!(out.contains("kept is that of packed"), "{out}");
    let weights = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
    assert_eq!(weights(&same), weights(&packed));
}

/// The page stands by itself, shows the run, and takes no name for markup. Progress is in lines where there is no
/// terminal.
#[test]
fn a_run_as_a_page_and_as_lines() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("tiny <b>&");
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(bundled()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let (page, report) = (dir.path().join("run.html"), dir.path().join("run.json"));
    let eval = bundled().join("../eval.txt");
    let output = llama(&quantize(&[
        "--model",
        text(&model),
        "--eval-text",
        text(&eval),
        "--override",
        "down_proj=w4g64",
        "--html",
        text(&page),
        "--report",
        text(&report),
    ]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for line in [
        "Block-AP, block 1 of 6, epoch 1 of 1: loss ",
        "Block-AP, block 6 of 6, epoch 1 of 1: loss ",
        "E2E-AP, epoch 1 of 1: loss ",
        ", 24 of 24 batches, 0 s left, peak memory ",
        ", 8 of 8 items, 0 s left, peak memory ",
    ] {
        assert!(stderr.contains(line), "{line}: {stderr}");
    }
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    assert!(html.contains("tiny &lt;b&gt;&amp;") && !html.contains("<b>"));
    assert_eq!(html.matches("<svg").count(), 7);
    assert_eq!(html.matches("</svg>").count(), 7);
    assert!(!html.contains("http") && !html.contains("<script"));
    for stage in json(&report)["stages"].as_array().unwrap() {
        let perplexity = format!("<td>{:.3}</td>", stage["perplexity"].as_f64().unwrap());
        let bytes = format!("<td>{}</td>", stage["bytes"]);
        assert!(
            html.contains(&perplexity) && html.contains(&bytes),
            "{stage}"
        );
    }
    for shown in [
        "layers.5.mlp.down_proj.weight",
        "w4g64",
        "rates.quant",
        "4 bits",
    ] {
        assert!(html.contains(shown), "{shown}");
    }
}

/// Nothing is trained, so nothing to train on is needed.
#[test]
fn rounding_needs_no_calibration() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens.safetensors");
    let data: Vec<u8> = [1i32, 40, 42, 41]
        .iter()
        .flat_map(|t| t.to_le_bytes())
        .collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I32, vec![1, 4], &data);
    let file = safetensors::serialize([("eval", view.unwrap())], None).unwrap();
    fs::write(&tokens, file).unwrap();
    let report = dir.path().join("report.json");
    let rtn = ["quantize", "--method", "rtn", "--report", text(&report)];
    succeeds(&[&rtn[..], &["--calibration-tokens", text(&tokens)]].concat());
    let report = json(&report);
    assert_eq!(report["stages"].as_array().unwrap().len(), 2);
    assert!(report["settings"]["train_size"].is_null());
}

#[test]
fn a_model_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let story = dir.path().join("story.txt");
    let one = "The cat sat on the mat. The dog ran to the cat. They were happy.";
    fs::write(&story, vec![one; 60].join("\n<|endoftext|>\n")).unwrap();
    let model = dir.path().join("model");
    let pretrain = [
        "pretrain",
        "--text",
        text(&story),
        "--output",
        text(&model),
        "--epochs",
        "2",
        "--batch-size",
        "2",
        "--seq-len",
        "32",
        "--vocab-size",
        "300",
        "--hidden-size",
        "32",
        "--intermediate-size",
        "64",
        "--layers",
        "1",
        "--heads",
        "2",
        "--kv-heads",
        "1",
    ];
    succeeds(&pretrain);
    assert!(fails(&pretrain).contains("not empty"));
    let other = dir.path().join("other");
    for (setting, expected) in [
        (["--batch-size", "0"], "the batch size is 0"),
        (["--seq-len", "600"], "expected at most 512"),
        (["--seq-len", "1"], "the window is 1"),
        (["--epochs", "0"], "the number of epochs is 0"),
        (["--vocab-size", "9"], "expected 258 or more"),
    ] {
        let base = ["pretrain", "--text", text(&story), "--output", text(&other)];
        let stderr = fails(&[&base[..], &setting[..]].concat());
        assert!(stderr.contains(expected), "{setting:?}: {stderr}");
    }
    let text_file = dir.path().join("calibration.txt");
    fs::write(&text_file, vec![one; 200].join(" ")).unwrap();
    let out = succeeds(&quantize(&[
        "--model",
        text(&model),
        "--calibration",
        text(&text_file),
        "--scheme",
        "w4g32",
    ]));
    assert!(out.contains("e2e-ap"), "{out}");
}

/// Ctrl-C, or a request to end, in the middle of the work: nothing is left behind but a run to go on with.
#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_run() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("packed");
        let args = ["quantize", "--output", text(&output)];
        let child = command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{signal}: {stderr}");
        assert!(stderr.contains("interrupted"), "{signal}: {stderr}");
        let left = fs::read_dir(dir.path()).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["packed.run"]);
        assert!(stderr.contains("--resume"), "{stderr}");
    }
}

/// What somebody else has made is never replaced, whatever is asked for.
#[test]
fn only_checkpoints_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("config.json"), "{}").unwrap();
    fs::write(home.join("thesis.tex"), "mine").unwrap();
    let quantize = quantize(&["--output", ".", "--force"]);
    let model = bundled();
    let export = |format: &'static str, output: &'static str| {
        let arguments = ["export", "--model", text(&model), "--format", format];
        [&arguments[..], &["--output", output, "--force"]].concat()
    };
    for arguments in [quantize, export("dense", ".")] {
        let ended = command(&arguments).current_dir(&home).output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(
            !ended.status.success() && stderr.contains("thesis.tex"),
            "{stderr}"
        );
    }
    let ended = command(&export("gguf", "thesis.tex"))
        .current_dir(&home)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(
        stderr.contains("thesis.tex: is not a GGUF file"),
        "{stderr}"
    );
    assert_eq!(fs::read_to_string(home.join("thesis.tex")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 2);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// A place that cannot be written is found out before the work, not after it.
#[cfg(unix)]
#[test]
fn a_place_that_cannot_be_written_is_refused_at_once() {
    let start = std::time::Instant::now();
    let stderr = fails(&["quantize", "--output", "/proc/no/model"]);
    assert!(stderr.contains("/proc"), "{stderr}");
    assert!(start.elapsed().as_secs() < 10);
}

/// Both phases on two workers of the CPU: the same perplexities as on one, but for rounding; a run goes on with both.
#[cfg(feature = "flex")]
#[test]
fn several_devices_train_together() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.json"), dir.path().join("two.json"));
    let tokens = ["--calibration", text(&bundled().join("../eval.txt"))].map(String::from);
    let job = |more: &[&str]| {
        let mut arguments = quantize(&["--batch-size", "4"]);
        arguments.extend(tokens.iter().map(String::as_str));
        arguments.extend(more);
        succeeds(&arguments);
    };
    job(&["--report", text(&one)]);
    let run = dir.path().join("run");
    let several = [
        "--device",
        "flex,flex",
        "--report",
        text(&two),
        "--run",
        text(&run),
    ];
    job(&several);
    let [one, two] = [json(&one), json(&two)];
    assert_eq!(one["settings"], two["settings"], "as they were asked for");
    for stage in 0..4 {
        let number = |report: &Value| report["stages"][stage]["perplexity"].as_f64().unwrap();
        let (one, two) = (number(&one), number(&two));
        assert!((one - two).abs() / one < 1e-2, "{one} {two}");
    }
    let error = fails(&["quantize", "--resume", text(&run), "--device", "flex"]);
    let expected = "--device is \"flex\", but the run began with \"flex,flex\"";
    assert!(error.contains(expected), "{error}");
    succeeds(&["quantize", "--resume", text(&run)]);
}

/// Lists of devices where they make no sense are refused before anything is done.
#[cfg(feature = "flex")]
#[test]
fn devices_that_cannot_be_used_are_refused() {
    let model = bundled();
    let refused = |arguments: &[&str], expected: &str| {
        let error = fails(arguments);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    };
    let eval = |devices| fails(&["eval", "--model", text(&model), "--device", devices]);
    let error = eval("flex,flex");
    let expected = "--device names 2 devices, expected one: only quantize trains on several";
    assert!(error.contains(expected), "{error}");
    assert!(eval("gpu").contains("\"gpu\" is no device: expected one of flex"));
    refused(
        &quantize(&["--device", "flex,flex", "--batch-size", "3"]),
        "--batch-size is 3, expected a multiple of the 2 devices",
    );
    refused(
        &quantize(&["--device", "flex,flex,flex", "--batch-size", "3"]),
        "--e2e-batch is 4 and --grad-accum 1, expected one of them to be a multiple of the 3 devices",
    );
    let offload = quantize(&["--device", "flex,flex", "--offload", "--run", "no/run"]);
    refused(
        &offload,
        "--offload is for a single device: --device names 2, expected one",
    );
    refused(
        &round(&["--device", "flex,flex"]),
        "--device with several devices has no effect with --method rtn",
    );
}
