//! The two little models of this package, from their files through both phases to packed files, and the command line.

use burn::tensor::Device;
use burn_eqat::{Bits, Quantize};
use multimodal::LoadedMultimodal;
use multimodal::data::World;
use multimodal::evaluate::Sampling;
use multimodal::learn::Pupil;
use multimodal::little::{Little, Measure, Sizes, bundled};
use multimodal::quantize::QuantizeSettings;
use multimodal::table::Row;
use std::path::Path;
use std::process::{Command, Output};

fn measure(per_kind: usize) -> Measure {
    Measure {
        per_kind,
        sampling: Sampling {
            temperature: 0.7,
            seed: 7,
        },
        sizes: Sizes {
            block_ap: 64,
            e2e_qp: 64,
            valid: 16,
            batches: [8, 16],
        },
    }
}

fn open(world: World, per_kind: usize) -> Little {
    let device = Device::flex();
    Little::open(world, &bundled(world), measure(per_kind), &device).unwrap()
}

#[test]
fn both_know_their_world() {
    for world in World::ALL {
        let little = open(world, 100);
        let model = &little.loaded.model;
        let row = little.row(model, ("-", "full-precision"), 0.0).unwrap();
        // Of more questions it is above 95 % (docs/results.md).
        assert!(row.greedy.all >= 0.93, "{world}: {row:?}");
        assert!(row.sampled.all >= 0.9, "{world}: {row:?}");
    }
}

/// The bundled files are those that `multimodal train` writes.
#[test]
fn the_files_beside_the_weights_are_those_of_the_program() {
    for world in World::ALL {
        let (dir, pupil) = (bundled(world), Pupil::new(world).unwrap());
        let loaded = LoadedMultimodal::open(&dir, &Device::flex()).unwrap();
        assert_eq!(loaded.config, pupil.config);
        assert_eq!(loaded.processor().unwrap(), pupil.processor);
        // A conversation in the same tokens, question by question.
        let dialogues = pupil.dialogues(1, 1).unwrap();
        let conversations = loaded.conversations().unwrap();
        for turn in world.sample(1, 0).turns {
            let question = turn.question.as_str();
            let prompt = conversations.prompt(question).unwrap();
            assert_eq!(prompt, dialogues.conversations.prompt(question).unwrap());
            assert_eq!(
                prompt.iter().filter(|id| **id == 0).count(),
                0,
                "{question}"
            );
        }
    }
}

#[test]
fn little_is_lost_at_two_bits_and_files_keep_it() {
    for (world, tower) in [(World::Shapes, None), (World::Tones, Some("w4g64"))] {
        let little = open(world, 12);
        let settings = QuantizeSettings {
            tower: tower.map(|scheme| scheme.parse().unwrap()),
            ..QuantizeSettings::new("w2g64".parse().unwrap())
        };
        let full = little
            .row(&little.loaded.model, ("-", "full-precision"), 0.0)
            .unwrap();
        let (packed, rows) = little.quantize(&settings, &mut |_| {}).unwrap();
        let [rounded, trained, tuned] = &rows[..] else {
            panic!("{world}: stages are missing: {rows:?}");
        };
        // Rounding does little to models with so many bits to spare. Training must not do more.
        assert!(
            tuned.loss < 1.1 * full.loss.max(rounded.loss),
            "{world}: {} of {}, {} before",
            tuned.loss,
            rounded.loss,
            full.loss
        );
        assert!(
            tuned.greedy.all >= full.greedy.all - 0.05,
            "{world}: {tuned:?}"
        );
        let in_tower = packed.layer_sizes().into_iter();
        let in_tower: Vec<Bits> = in_tower
            .filter(|layer| layer.path.contains("_tower."))
            .map(|layer| layer.scheme.bits)
            .collect();
        assert_eq!(in_tower.is_empty(), tower.is_none());
        assert!(in_tower.iter().all(|bits| *bits == Bits::Four));

        // What was saved is what was measured, to the bit: of the last stage, or of the one before, where that made it worse.
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("packed");
        little.loaded.save_packed(&packed, &target, false).unwrap();
        let again = Little::open(world, &target, measure(12), &Device::flex()).unwrap();
        let row = again
            .row(&again.loaded.model, ("w2g64", "e2e-qp"), 0.0)
            .unwrap();
        let is_saved = |measured: &&Row| {
            measured.greedy == row.greedy
                && measured.sampled == row.sampled
                && (measured.loss - row.loss).abs() < 1e-6
        };
        assert!(
            [trained, tuned].iter().any(is_saved),
            "{world}: {row:?} of {rows:?}"
        );
        assert_eq!(row.bits_per_weight, tuned.bits_per_weight);
    }
}

fn multimodal(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_multimodal"))
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn questions_about_files_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for (world, file, option, caption) in [
        (
            "shapes",
            path("a.png"),
            "--image",
            "what is in the picture?",
        ),
        ("tones", path("a.wav"), "--audio", "what do you hear?"),
    ] {
        let turns = said(&multimodal(&["draw", world, "--output", &file]));
        let expected = turns
            .lines()
            .find_map(|line| line.strip_prefix(caption))
            .unwrap_or_else(|| panic!("no caption in {turns}"));
        let answer = said(&multimodal(&["ask", option, &file, "--question", caption]));
        assert_eq!(answer.trim(), expected.trim());
    }
    // What is wrong is named.
    let ask = |option: &str, file: &str| {
        failed(&multimodal(&["ask", option, file, "--question", "what?"]))
    };
    let sound = path("a.wav");
    assert!(ask("--image", &sound).contains("a.wav: "));
    assert!(ask("--audio", &path("b.wav")).contains("b.wav: "));
    let bundled = bundled(World::Tones).to_string_lossy().into_owned();
    let image = path("a.png");
    let args = [
        "ask",
        "--model",
        &bundled,
        "--image",
        &image,
        "--question",
        "what?",
    ];
    assert!(failed(&multimodal(&args)).contains("takes --audio, and got --image"));
    let long = path("long.wav");
    multimodal::audio::write_wav(Path::new(&long), &[0.0; 20_000], 8000).unwrap();
    assert!(ask("--audio", &long).contains("takes 2.50 seconds, expected at most 1.28"));
    multimodal::audio::write_wav(Path::new(&long), &[0.0; 100], 44_100).unwrap();
    assert!(ask("--audio", &long).contains("has 44100 samples a second, expected 8000"));
}

/// Instruction data of files, through both phases of the decoder and the tower, from a command.
#[test]
fn a_model_learns_from_instruction_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let mut records = Vec::new();
    for seed in 0..12 {
        let name = format!("{seed}.png");
        let seed = seed.to_string();
        let turns = said(&multimodal(&[
            "draw",
            "shapes",
            "--output",
            &path(&name),
            "--seed",
            &seed,
        ]));
        let turns = turns.lines().flat_map(|line| {
            let (question, answer) = line.split_once("? ").unwrap();
            [
                serde_json::json!({"from": "human", "value": format!("<image>\n{question}?")}),
                serde_json::json!({"from": "gpt", "value": answer}),
            ]
        });
        let turns: Vec<_> = turns.collect();
        records.push(serde_json::json!({"image": name, "conversations": turns}));
    }
    // One that is about nothing is left out.
    records.push(serde_json::json!({"conversations": []}));
    let data = path("data.json");
    std::fs::write(&data, serde_json::json!(records).to_string()).unwrap();
    let (model, output, decoder) = (
        bundled(World::Shapes).to_string_lossy().into_owned(),
        path("packed"),
        path("decoder"),
    );
    let args = [
        "quantize",
        "--model",
        &model,
        "--data",
        &data,
        "--scheme",
        "w3g64",
        "--tower-scheme",
        "w4g64",
        "--val-size",
        "4",
        "--output",
        &output,
    ];
    said(&multimodal(&args));
    let loaded = LoadedMultimodal::open(Path::new(&output), &Device::flex()).unwrap();
    let schemes = loaded.schemes.unwrap();
    assert_eq!(schemes.scheme.to_string(), "w3g64");
    let mut others = schemes.overrides.iter();
    assert!(
        others.len() > 0
            && others.all(|(path, scheme)| {
                path.starts_with("vision_tower.") && scheme.to_string() == "w4g64"
            })
    );
    said(&multimodal(&[
        "export", "--model", &output, "--output", &decoder,
    ]));
    let decoder = llama::LoadedLlama::open(Path::new(&decoder), &Device::flex()).unwrap();
    assert_eq!(decoder.schemes.unwrap().scheme.to_string(), "w3g64");
    // It is full precision that is asked for.
    let args = [
        "quantize",
        "--model",
        &output,
        "--data",
        &data,
        "--output",
        &path("again"),
    ];
    assert!(failed(&multimodal(&args)).contains("packed in"));
    std::fs::write(
        &data,
        r#"[{"image": "0.png", "conversations": [{"from": "gpt", "value": "no"}]}]"#,
    )
    .unwrap();
    let args = [
        "quantize",
        "--model",
        &model,
        "--data",
        &data,
        "--output",
        &path("again"),
    ];
    assert!(failed(&multimodal(&args)).contains("record 0: from is \"gpt\", expected \"human\""));
}
