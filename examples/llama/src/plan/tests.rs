use super::*;
use crate::LlamaConfig;
use crate::quantize::{BlockApSettings, E2eApSettings, E2eQpSettings, QuantizeSettings, Rates};
use burn::tensor::DType;
use burn_eqat::ComputeType;
use burn_eqat::train::{CacheConfig, CacheDType, DistillationConfig};
use burn_eqat::{Method, Schemes, StartValues};
use serde_json::json;
use std::path::Path;

/// A run of the paper's sizes on a device with a memory of its own.
fn paper(config: serde_json::Value, scheme: &str) -> PlanInputs {
    let config: LlamaConfig = serde_json::from_value(config).unwrap();
    config.check().unwrap();
    let scheme = scheme.parse().unwrap();
    PlanInputs {
        config,
        file: DType::BF16,
        file_bytes: None,
        packed: false,
        schemes: Schemes::new(scheme),
        writes_calibration: false,
        bits_budget: None,
        settings: QuantizeSettings {
            scheme,
            overrides: Vec::new(),
            method: Method::EfficientQat,
            block_ap: Some(BlockApSettings {
                train_size: 4096,
                batch_size: 2,
                epochs: 2,
                loss: Default::default(),
                start: StartValues::MinMax,
                lookahead: 0,
                probe_rates: false,
            }),
            cache: CacheConfig::new().with_memory(Some(0)),
            dtype: ComputeType::Bf16,
            seq_len: 2048,
            val_size: 64,
            e2e_qp: Some(E2eQpSettings {
                e2e_size: 4096,
                e2e_batch: 2,
                e2e_epochs: 1,
                grad_accum: 16,
                recompute: true,
                offload: false,
                distillation: None,
                e2e_ap: None,
            }),
            rates: Rates::default(),
            seed: 1,
        },
        eval: 128,
        fused: true,
        devices: 1,
        separate_device: true,
        bf16: true,
        run_dir: true,
        output: true,
    }
}

fn llama_2_7b() -> PlanInputs {
    let config = json!({
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 4096,
    });
    paper(config, "w2g64")
}

/// Two blocks of width 8, two heads of which share keys, on a CPU.
fn tiny() -> PlanInputs {
    let config = json!({
        "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "attention_bias": true,
    });
    let mut inputs = paper(config, "w4g4");
    (inputs.settings.dtype, inputs.separate_device) = (ComputeType::F32, false);
    inputs.eval = 1;
    let settings = &mut inputs.settings;
    (settings.seq_len, settings.val_size) = (3, 3);
    settings.cache = CacheConfig::new();
    settings.block_ap = Some(BlockApSettings {
        train_size: 5,
        batch_size: 2,
        epochs: 3,
        loss: Default::default(),
        start: StartValues::MinMax,
        lookahead: 0,
        probe_rates: false,
    });
    settings.e2e_qp = Some(E2eQpSettings {
        e2e_size: 7,
        e2e_batch: 2,
        e2e_epochs: 2,
        grad_accum: 3,
        recompute: false,
        offload: false,
        distillation: None,
        e2e_ap: None,
    });
    inputs
}

/// The bytes of a term at a moment of a phase.
fn term(plan: &Plan, phase: &str, when: &str, what: &str) -> u64 {
    let moments = &plan.phase(phase).unwrap().moments;
    let moment = moments.iter().find(|moment| moment.when == when).unwrap();
    let found = moment.terms.iter().find(|term| term.what == what);
    found
        .unwrap_or_else(|| panic!("no {what} in {moment:?}"))
        .bytes
}

#[test]
fn sizes_and_steps_of_llama_2_7b() {
    let plan = plan(&llama_2_7b()).unwrap();
    assert_eq!((plan.params, plan.blocks), (6_738_415_616, 32));
    assert_eq!(plan.bytes_before, 13_476_831_232);
    // A block: 202 375 168 weights of 2 bits, a step size of 16 bits and a zero point of 2 for each 64 of them, and two norms
    // of 4096 in 32 bits. Outside: two matrices of 32000 by 4096 in 16 bits, and a norm.
    let block = 50_593_792 + 6_324_224 + 790_528 + 32_768;
    assert_eq!(plan.bytes_after, 32 * block + 524_288_000 + 16_384);
    // 2048 batches, 2 epochs, 32 blocks; 2048 batches, 16 a step.
    assert_eq!(plan.phase("block-ap").unwrap().steps, 131_072);
    assert_eq!(plan.phase("e2e-qp").unwrap().steps, 128);
}

#[test]
fn memory_of_llama_2_7b() {
    let plan = plan(&llama_2_7b()).unwrap();
    let of = |when, what| term(&plan, "block-ap", when, what);
    let optimizer = "optimizer step";
    let weights = 4 * 202_383_360;
    assert_eq!(of(optimizer, "weights of a block"), weights);
    assert_eq!(of(optimizer, "moments of the weights"), 2 * weights);
    assert_eq!(of(optimizer, "gradients"), weights);
    // 3 162 112 step sizes and as many zero points.
    assert_eq!(
        of(optimizer, "step sizes and zero points, with moments"),
        3 * 4 * 2 * 3_162_112
    );
    // Two files of 4160 windows of 2048 times 4096 values in 16 bits; two windows are a record, with a head of 64 bytes.
    let disk = plan.phase("block-ap").unwrap().bytes(Place::Disk);
    let finished = 32 * (50_593_792 + 790_528 + 4 * 3_162_112 + 4 * 8192);
    assert_eq!(disk, 2 * 2 * 4160 * 2048 * 4096 + 2 * 2080 * 64 + finished);
    let of = |what| term(&plan, "e2e-qp", "backward pass of a block", what);
    let steps = 4 * 32 * 3_162_112;
    assert_eq!(of("step sizes"), steps);
    assert_eq!(of("moments of the step sizes"), 2 * steps);
    // A batch's, and the sum of those before it.
    assert_eq!(of("gradients of the step sizes"), 2 * steps);
    assert_eq!(of("codes and zero points"), 32 * (50_593_792 + 790_528));
    // 33 times 2 windows of 2048 times 4096 values.
    assert_eq!(of("what goes into each block"), 33 * 2 * 2048 * 4096 * 2);
}

#[test]
fn activations_are_counted_op_by_op() {
    let plan = plan(&tiny()).unwrap();
    // A block has 64 + 32 + 32 + 64 weights in attention, and 3 * 96 in the feed-forward layers; biases of 8, 4, 4 and 8.
    let weights = 192 + 288;
    assert_eq!(plan.params, 2 * (weights + 16 + 24) + 2 * 80 + 8);
    let of = |what| term(&plan, "block-ap", "forward and backward pass", what);
    assert_eq!(of("weights of a block"), 4 * (weights + 16 + 24));
    // 6 tokens. Each keeps 5 times the width, queries twice, keys twice, the inner width 3 times, and a number of each head; the
    // fake-quantized weights are kept, too. The most is there as the last layer runs backward: the difference to the target is
    // gone, and there are the gradients of its 96 weights, of its input (12 a token) and of the residual stream.
    let kept = 6 * (5 * 8 + 2 * 8 + 2 * 4 + 3 * 12 + 2) + weights;
    assert_eq!(
        of("activations, fake-quantized weights and gradients on their way"),
        4 * (kept - 6 * 8 + 96 + 6 * (12 + 8))
    );
    // In memory: two of 8 windows of 3 times 8 values.
    assert_eq!(of("activations of all samples"), 4 * 2 * 8 * 3 * 8);
    let of = |what| term(&plan, "e2e-qp", "backward pass of a block", what);
    let kept = 6 * (4 * 8 + 2 * 8 + 2 * 4 + 3 * 12 + 2);
    assert_eq!(of("activations of all blocks"), 2 * 4 * kept);
    // 3 batches, 3 epochs, 2 blocks; 4 batches, 3 a step, 2 epochs.
    assert_eq!(plan.phase("block-ap").unwrap().steps, 18);
    assert_eq!(plan.phase("e2e-qp").unwrap().steps, 4);
}

#[test]
fn more_work_never_takes_less() {
    let totals = |inputs: &PlanInputs| {
        let plan = plan(inputs).unwrap();
        let places = [Place::Device, Place::Host, Place::Disk];
        let phases = plan.phases.iter();
        let bytes = phases.flat_map(|phase| places.map(|place| plan.bytes(phase, place)));
        bytes.collect::<Vec<_>>()
    };
    type Change = fn(&mut PlanInputs);
    let changes: [(Change, &str); 8] = [
        (|inputs| inputs.settings.seq_len *= 2, "longer windows"),
        (
            |inputs| inputs.settings.val_size *= 2,
            "more validation windows",
        ),
        (
            |inputs| inputs.settings.block_ap.as_mut().unwrap().train_size *= 2,
            "more windows",
        ),
        (
            |inputs| inputs.settings.block_ap.as_mut().unwrap().batch_size *= 2,
            "larger batches",
        ),
        (
            |inputs| inputs.settings.e2e_qp.as_mut().unwrap().e2e_batch *= 2,
            "larger batches of E2E-QP",
        ),
        (|inputs| inputs.config.num_hidden_layers *= 2, "more blocks"),
        (|inputs| inputs.config.vocab_size *= 2, "more tokens"),
        (|inputs| inputs.fused = false, "separate ops"),
    ];
    for inputs in [llama_2_7b(), tiny()] {
        let before = totals(&inputs);
        for (change, name) in changes {
            // In 16 bits the fused ops have copies in f32.
            if name == "separate ops" && inputs.settings.dtype.is_half() {
                continue;
            }
            let mut more = inputs.clone();
            change(&mut more);
            let after = totals(&more);
            let fits = before.iter().zip(&after).all(|(before, after)| {
                // A last batch may be no whole record.
                *after as f64 >= 0.999 * *before as f64
            });
            assert!(fits && after != before, "{name}: {before:?} {after:?}");
        }
    }
}

#[test]
fn options_take_less() {
    let most = |inputs: &PlanInputs, phase: &str, place| {
        let plan = plan(inputs).unwrap();
        plan.bytes(plan.phase(phase).unwrap(), place)
    };
    let mut base = llama_2_7b();
    // So that training takes the most, and not the evaluation.
    base.eval = 1;
    let mut changed = base.clone();
    changed.settings.e2e_qp.as_mut().unwrap().recompute = false;
    let device = Place::Device;
    // All blocks' activations instead of one's: 230 KB a token and block, in 32 blocks of 4096 tokens, without what goes into them.
    let more = most(&changed, "e2e-qp", device) - most(&base, "e2e-qp", device);
    assert!((25_000_000_000..32_000_000_000).contains(&more), "{more}");
    changed = base.clone();
    changed.settings.e2e_qp.as_mut().unwrap().offload = true;
    assert!(most(&changed, "e2e-qp", device) < most(&base, "e2e-qp", device) - 2_000_000_000);
    assert!(most(&changed, "e2e-qp", Place::Host) > most(&base, "e2e-qp", Place::Host));
    changed = base.clone();
    changed.settings.cache = CacheConfig::new()
        .with_memory(Some(0))
        .with_dtype(CacheDType::F32);
    // The activations are in 16 bits already.
    assert_eq!(
        most(&changed, "block-ap", Place::Disk),
        most(&base, "block-ap", Place::Disk)
    );
    changed.settings.dtype = ComputeType::F32;
    assert!(most(&changed, "block-ap", Place::Disk) > 270_000_000_000);
    changed = base.clone();
    changed.settings.block_ap.as_mut().unwrap().lookahead = 1;
    // One more block, and its activations.
    let more = most(&changed, "block-ap", device) - most(&base, "block-ap", device);
    assert!((800_000_000..3_000_000_000).contains(&more), "{more}");
}

#[test]
fn e2e_ap_in_files_hardly_grows_with_the_blocks() {
    let most = |blocks: usize, offload: bool| {
        let mut inputs = llama_2_7b();
        inputs.config.num_hidden_layers = blocks;
        inputs.eval = 1;
        let phase = inputs.settings.e2e_qp.as_mut().unwrap();
        phase.e2e_ap = Some(E2eApSettings { epochs: 1 });
        phase.distillation = Some(DistillationConfig::new());
        (phase.e2e_batch, phase.grad_accum, phase.offload) = (1, 1, offload);
        let plan = plan(&inputs).unwrap();
        let phase = plan.phase("e2e-ap").unwrap();
        let steps = phase.steps;
        (
            plan.bytes(phase, Place::Device),
            plan.bytes(phase, Place::Disk),
            steps,
        )
    };
    let [(four, ..), (sixteen, ..)] = [4, 16].map(|blocks| most(blocks, true));
    assert!(
        four < sixteen && sixteen < four + four / 10,
        "{four} {sixteen}"
    );
    let (device, disk, steps) = most(32, true);
    assert!(device < 7_000_000_000, "{device}");
    // Two times 8 bytes for each of 6.5 billion weights, and what the original made of 4160 windows.
    assert!((174_000_000_000..188_000_000_000).contains(&disk), "{disk}");
    assert_eq!(steps, 4096);
    assert!(most(32, false).0 > 100_000_000_000);
}

#[test]
fn what_does_not_fit_is_said_with_what_would() {
    let all = |_: &str| true;
    let mut inputs = llama_2_7b();
    inputs.settings.cache = CacheConfig::new();
    let roomy = Machine::default();
    let on = |device: u64| Machine {
        device: Some(device),
        ..Machine::default()
    };
    inputs.settings.block_ap.as_mut().unwrap().train_size = 8;
    inputs.settings.val_size = 8;
    assert_eq!(check(&inputs, roomy, &all).unwrap(), None);
    // Without the training windows it fits in 24 GB, with them it does not.
    inputs.settings.block_ap.as_mut().unwrap().train_size = 1024;
    inputs.settings.e2e_qp.as_mut().unwrap().recompute = true;
    let found = check(&inputs, on(24_000_000_000), &|flag| flag != "output").unwrap();
    let lacking = found.unwrap();
    assert_eq!((lacking.phase, lacking.place), ("block-ap", Place::Device));
    assert_eq!(lacking.with, [Relief::CacheMemory(0)]);
    let message = lacking.to_string();
    assert!(
        message.contains("24.00 GB; it would fit with --cache-memory 0"),
        "{message}"
    );
    // Two are needed at once; a flag that is not there is not named.
    inputs.settings.e2e_qp.as_mut().unwrap().recompute = false;
    let lacking = check(&inputs, on(10_000_000_000), &|flag| flag != "dtype")
        .unwrap()
        .unwrap();
    assert_eq!(lacking.with, [Relief::CacheMemory(0), Relief::Recompute]);
    let lacking = check(&inputs, on(1_000_000), &all).unwrap().unwrap();
    assert!(lacking.with.is_empty());
    assert!(lacking.to_string().ends_with("no option makes it fit"));
    // A model of 27 GB in f32 cannot write text in 24.
    let mut writes = inputs.clone();
    writes.writes_calibration = true;
    let lacking = check(&writes, on(24_000_000_000), &|flag| flag != "dtype")
        .unwrap()
        .unwrap();
    assert_eq!(lacking.phase, "calibration");
    assert!(lacking.with.contains(&Relief::Calibration), "{lacking}");
    // On a CPU the host has it all.
    let host = Machine {
        host: Some(1_000),
        ..Machine::default()
    };
    let lacking = check(&tiny(), host, &all).unwrap().unwrap();
    assert_eq!(lacking.place, Place::Host);
    // No disk has room for this.
    let settings = &mut inputs.settings;
    settings.cache = CacheConfig::new().with_memory(Some(0));
    settings.block_ap.as_mut().unwrap().train_size = 1 << 29;
    let full = Machine {
        disk: Some(Disk {
            directory: Path::new("."),
            run_dir: false,
        }),
        ..Machine::default()
    };
    let lacking = check(&inputs, full, &|_| false).unwrap().unwrap();
    assert_eq!(lacking.place, Place::Disk);
    assert!(lacking.to_string().contains("--cache-dir"), "{lacking}");
}

/// What the bench `recompute` measured (docs/results.md): MiB in a step of E2E-QP on as many blocks, end to end and by blocks.
#[test]
fn steps_of_e2e_qp_take_what_was_measured() {
    for (blocks, end_to_end, by_blocks) in
        [(4, 308.4, 132.6), (8, 575.2, 154.2), (16, 1108.6, 197.4)]
    {
        for (recompute, measured) in [(false, end_to_end), (true, by_blocks)] {
            let config = json!({
                "vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1408,
                "num_hidden_layers": blocks, "num_attention_heads": 8,
            });
            let mut inputs = paper(config, "w2g64");
            inputs.settings.dtype = ComputeType::F32;
            inputs.settings.seq_len = 512;
            inputs.settings.e2e_qp = Some(E2eQpSettings {
                e2e_size: 16,
                e2e_batch: 4,
                e2e_epochs: 1,
                grad_accum: 1,
                recompute,
                offload: false,
                distillation: None,
                e2e_ap: None,
            });
            let plan = plan(&inputs).unwrap();
            let moments = &plan.phase("e2e-qp").unwrap().moments;
            // The bench evaluates nothing.
            let steps = moments.iter().filter(|moment| moment.when != "evaluation");
            let planned = steps
                .map(|moment| moment.bytes(Place::Device))
                .max()
                .unwrap();
            let ratio = planned as f64 / (measured * f64::from(1 << 20));
            assert!(
                (0.9..1.1).contains(&ratio),
                "{blocks} blocks, {recompute}: {ratio}"
            );
        }
    }
}

#[test]
fn groups_that_do_not_divide_are_an_error() {
    let mut inputs = tiny();
    inputs.schemes = Schemes::new("w2g8".parse().unwrap());
    let error = plan(&inputs).unwrap_err().to_string();
    assert!(
        error.contains("model.layers.0.mlp.down_proj.weight"),
        "{error}"
    );
}

#[test]
fn absurd_sizes_do_not_overflow() {
    let mut inputs = tiny();
    let settings = &mut inputs.settings;
    (settings.seq_len, settings.val_size) = (1 << 40, 1 << 40);
    settings.block_ap.as_mut().unwrap().train_size = usize::MAX;
    settings.e2e_qp.as_mut().unwrap().e2e_batch = usize::MAX / 2;
    let plan = plan(&inputs).unwrap();
    assert_eq!(
        plan.bytes(plan.phase("block-ap").unwrap(), Place::Host),
        u64::MAX
    );
}

#[test]
fn times_are_those_of_all_steps() {
    let mut inputs = tiny();
    inputs.settings.e2e_qp.as_mut().unwrap().grad_accum = 1;
    let times = MeasuredSteps {
        block_ap_step: 10.0,
        block_ap_forward: 1.0,
        e2e_qp_step: 5.0,
        e2e_qp_forward: 2.0,
        e2e_qp_head: 4.0,
    }
    .times(&inputs);
    // 2 blocks: 3 epochs of 3 steps; 3 and 2 batches twice forward, and 2 batches of validation in each epoch.
    assert_eq!(times.block_ap, 2.0 * (90.0 + 10.0 + 6.0));
    // 2 epochs of 4 batches, and 2 batches of validation three times.
    assert_eq!(times.e2e_qp, 8.0 * (10.0 + 4.0) + 6.0 * (4.0 + 2.0));
    assert_eq!(times.e2e_ap, 0.0);
    // E2E-AP in its place: an epoch of the same batches, which are as large as those of Block-AP, and validation twice, each batch
    // through the original, too.
    let phase = inputs.settings.e2e_qp.as_mut().unwrap();
    phase.e2e_epochs = 0;
    phase.e2e_ap = Some(E2eApSettings { epochs: 1 });
    phase.distillation = Some(DistillationConfig::new());
    let (steps, windows) = (times.steps, phase.e2e_batch);
    inputs.settings.block_ap.as_mut().unwrap().batch_size = windows;
    let times = steps.times(&inputs);
    assert_eq!(times.e2e_qp, 0.0);
    let forward = 2.0 + 2.0;
    assert_eq!(
        times.e2e_ap,
        4.0 * (20.0 + 4.0 + forward) + 4.0 * (forward + forward)
    );
}

#[cfg(feature = "flex")]
#[test]
fn sizes_are_those_of_the_model() {
    use crate::model::Llama;
    use burn::module::Module;
    use burn::tensor::Device;
    use burn_eqat::Quantize;
    use burn_eqat::files::expected_size;
    let inputs = tiny();
    let model = inputs.config.init(&Device::flex());
    let plan = plan(&inputs).unwrap();
    assert_eq!(plan.params, model.num_params() as u64);
    let packed = model
        .attach_packed(&Llama::quantized_weights(), &inputs.schemes)
        .unwrap();
    // Besides, files have a few numbers for each weight that say what its scheme is, if anything.
    let expected = expected_size(&packed, DType::BF16);
    assert!(
        expected.abs_diff(plan.bytes_after) < 1000,
        "{expected} {}",
        plan.bytes_after
    );
}

#[cfg(feature = "flex")]
#[test]
fn a_step_of_each_phase_is_measured() {
    use burn::tensor::Device;
    let mut other_blocks = tiny();
    let overrides = ["layers.1.mlp=w2g4", "layers.0.mlp.down_proj=w2g4"];
    let overrides = overrides.map(|text| text.parse().unwrap());
    other_blocks.schemes = other_blocks.schemes.with_overrides(overrides.clone());
    other_blocks.settings.overrides = overrides.to_vec();
    let mut half = tiny();
    half.settings.dtype = ComputeType::Bf16;
    for inputs in [tiny(), other_blocks, half] {
        let times = measure(&inputs, &Device::flex()).unwrap();
        let steps = times.steps;
        for seconds in [
            steps.block_ap_step,
            steps.block_ap_forward,
            steps.e2e_qp_step,
            steps.e2e_qp_forward,
            steps.e2e_qp_head,
        ] {
            assert!(seconds > 0.0 && seconds < 10.0, "{steps:?}");
        }
        assert!(times.block_ap > steps.block_ap_step && times.e2e_qp > steps.e2e_qp_step);
    }
}

/// The bytes of a term on disk in a phase; 0 where there is none.
fn on_disk(plan: &Plan, phase: &str, what: &str) -> u64 {
    let mut terms = plan.phase(phase).unwrap().disk.iter();
    terms
        .find(|term| term.what == what)
        .map_or(0, |term| term.bytes)
}

#[test]
fn devices_share_a_step_and_a_memory_or_have_their_own() {
    let one = llama_2_7b();
    let mut two = one.clone();
    two.devices = 2;
    let backward = "forward and backward pass";
    let (weights, tape) = (
        "weights of a block",
        "activations, fake-quantized weights and gradients on their way",
    );
    let of = |inputs: &PlanInputs, what| term(&plan(inputs).unwrap(), "block-ap", backward, what);
    // Each has half of the batch, and all of the weights.
    assert!(of(&two, tape) < of(&one, tape));
    assert_eq!(of(&two, weights), of(&one, weights));
    let steps =
        |inputs: &PlanInputs, phase: &str| plan(inputs).unwrap().phase(phase).unwrap().steps;
    for phase in ["block-ap", "e2e-qp"] {
        assert_eq!(steps(&two, phase), steps(&one, phase), "{phase}");
    }
    // What each has is in one and the same memory.
    let mut shared = two.clone();
    shared.separate_device = false;
    assert_eq!(of(&shared, tape), 2 * of(&two, tape));
    let memory = |inputs: &PlanInputs, phase: &str| {
        let plan = plan(inputs).unwrap();
        plan.bytes(plan.phase(phase).unwrap(), Place::Host)
    };
    let mut alone = one.clone();
    alone.separate_device = false;
    for phase in ["block-ap", "e2e-qp"] {
        assert!(memory(&shared, phase) > memory(&alone, phase), "{phase}");
    }
    // A batch of 2 is not dealt to 3, so there is no plan; and no option is named that could not be dealt.
    two.devices = 3;
    let error = plan(&two).unwrap_err().to_string();
    assert!(error.contains("--batch-size is 2"), "{error}");
    two.devices = 2;
    let reliefs = Relief::all(&two, &|_| true);
    let refused = |relief: &Relief| matches!(relief, Relief::BatchSize(1) | Relief::Offload { .. });
    assert!(!reliefs.iter().any(refused), "{reliefs:?}");
}

#[test]
fn options_are_only_named_where_they_can_be_used() {
    let mut inputs = llama_2_7b();
    inputs.settings.dtype = ComputeType::F32;
    inputs.run_dir = false;
    let all = |inputs: &PlanInputs| Relief::all(inputs, &|_| true);
    let found = all(&inputs);
    let offload = Relief::Offload { run: true };
    assert!(found.contains(&offload) && found.contains(&Relief::HalfPrecision));
    assert_eq!(offload.to_string(), "--offload --run DIR");
    // Another option may have brought the run directory.
    assert_eq!(
        offload
            .after(&Relief::RunDir.on(inputs.clone()))
            .to_string(),
        "--offload"
    );
    inputs.bf16 = false;
    assert!(!all(&inputs).contains(&Relief::HalfPrecision));
    // Rounded blocks leave memory, too.
    inputs.settings.method = Method::Rtn;
    (inputs.settings.block_ap, inputs.settings.e2e_qp) = (None, None);
    assert_eq!(all(&inputs), [Relief::RunDir]);
    let most = |inputs: &PlanInputs| {
        let plan = plan(inputs).unwrap();
        plan.bytes(plan.phase("rtn").unwrap(), Place::Device)
    };
    assert!(most(&Relief::RunDir.on(inputs.clone())) < most(&inputs));
}

#[test]
fn what_is_on_disk_beside_activations() {
    let mut inputs = llama_2_7b();
    let block = 50_593_792 + 790_528 + 4 * 3_162_112 + 4 * 8192;
    // 128 windows of 2048 tokens in 16 batches, in 16 bits.
    let states = 16 * (8 * 2048 * 4096 * 2 + 64);
    let found = plan(&inputs).unwrap();
    let evaluated = "hidden states of an evaluation";
    assert_eq!(on_disk(&found, "full-precision", evaluated), states);
    assert_eq!(on_disk(&found, "rtn", evaluated), states);
    assert_eq!(
        on_disk(&found, "rtn", "rounded blocks in the run directory"),
        32 * block
    );
    // All of the model is in memory then.
    assert_eq!(on_disk(&found, "e2e-qp", evaluated), 0);
    // A whole text may be more than the activations of the samples.
    inputs.eval = 1 << 16;
    let longer = plan(&inputs).unwrap();
    assert_eq!(on_disk(&longer, "block-ap", evaluated), 512 * states);
    let directory = Path::new(".");
    let machine = Machine {
        disk: Some(Disk {
            directory,
            run_dir: false,
        }),
        ..Machine::default()
    };
    inputs.eval = 1 << 36;
    let lacking = check(&inputs, machine, &|_| false).unwrap().unwrap();
    assert_eq!(lacking.place, Place::Disk);
    // A few windows fit in the budget of an evaluation, which is none here.
    inputs.eval = 8;
    inputs.settings.cache = CacheConfig::new();
    let small = plan(&inputs).unwrap();
    assert_eq!(on_disk(&small, "full-precision", evaluated), 0);
    assert_eq!(
        term(&small, "full-precision", "evaluation", evaluated),
        8 * 2048 * 4096 * 2
    );
}

/// A model that was packed before is copied to the run directory where its blocks take turns, and saved from there.
#[test]
fn a_packed_model_is_saved_block_by_block_where_its_blocks_take_turns() {
    let mut inputs = llama_2_7b();
    inputs.packed = true;
    inputs.settings.block_ap = None;
    let block = 50_593_792 + 790_528 + 4 * 3_162_112 + 4 * 8192;
    let finished = "finished blocks in the run directory";
    for (offload, blocks, kept) in [(false, 32, 0), (true, 1, 32)] {
        inputs.settings.e2e_qp.as_mut().unwrap().offload = offload;
        let plan = plan(&inputs).unwrap();
        let packed = term(&plan, "save", "writing", "packed blocks");
        assert_eq!(packed, blocks * block, "{offload}");
        for phase in ["e2e-qp", "save"] {
            assert_eq!(on_disk(&plan, phase, finished), kept * block, "{phase}");
        }
    }
}

/// The output layer computes in f32, and on more positions at a time where its weight has 16 bits.
#[test]
fn the_output_layer_is_in_f32() {
    let loss = |file, dtype| {
        let mut inputs = llama_2_7b();
        (inputs.file, inputs.settings.dtype) = (file, dtype);
        let plan = plan(&inputs).unwrap();
        let (when, what) = (
            "loss of the output layer",
            "losses and gradients of the output layer",
        );
        term(&plan, "e2e-qp", when, what)
    };
    let hidden = 2 * 2048 * 4096;
    let chunk = |rows: u64| 3 * rows * 32000 * 4;
    assert_eq!(
        loss(DType::F32, ComputeType::F32),
        chunk(32) + 5 * 4 * hidden
    );
    assert_eq!(
        loss(DType::BF16, ComputeType::F32),
        chunk(256) + 4 * (1 << 23) + 5 * 4 * hidden
    );
    assert_eq!(
        loss(DType::BF16, ComputeType::Bf16),
        chunk(256) + 4 * (1 << 23) + 5 * 4 * hidden + 2 * 2 * hidden
    );
}

#[test]
fn a_budget_of_bits_is_a_pass_and_a_size() {
    let mut inputs = llama_2_7b();
    let plain = plan(&inputs).unwrap();
    assert!(plain.phase("bits").is_none());
    inputs.bits_budget = Some(3.0);
    let planned = plan(&inputs).unwrap();
    let pass = planned.phase("bits").unwrap();
    assert_eq!(pass.steps, 32);
    // A block of 202 million weights in f32, its gradients, and activations of one window.
    let device = planned.bytes(pass, Place::Device);
    assert!((2_000_000_000..4_000_000_000).contains(&device), "{device}");
    // 6.48 billion weights in 3 bits, and embedding and output layer in 16.
    let bytes = 6_476_005_376.0 * 3.0 / 8.0 + 2.0 * 2.0 * 32000.0 * 4096.0;
    let part = planned.bytes_after as f64 / bytes;
    assert!((0.999..1.002).contains(&part), "{}", planned.bytes_after);
    assert!(planned.bytes_after > plain.bytes_after);
    // A model that is packed keeps its bits.
    inputs.packed = true;
    assert!(plan(&inputs).unwrap().phase("bits").is_none());
}

#[test]
fn what_the_original_makes_is_kept_where_that_is_cheaper() {
    let mut inputs = llama_2_7b();
    inputs.settings.e2e_qp = inputs.settings.e2e_qp.map(|phase| E2eQpSettings {
        distillation: Some(DistillationConfig::new()),
        ..phase
    });
    let lessons = |inputs: &PlanInputs| {
        let plan = plan(inputs).unwrap();
        let on_disk = |name: &str| plan.phase(name).map(|phase| plan.bytes(phase, Place::Disk));
        (on_disk("lessons"), on_disk("e2e-qp").unwrap())
    };
    let (none, without) = lessons(&inputs);
    assert_eq!(none, None);
    // One pass, but blocks in files. 4096 and 64 windows of 2048 tokens, 4096 numbers each in bf16: once kept, once on their way.
    inputs.settings.e2e_qp = inputs.settings.e2e_qp.map(|phase| E2eQpSettings {
        offload: true,
        ..phase
    });
    let (offloaded, with) = lessons(&inputs);
    let kept = 4160 * 2048 * 4096 * 2;
    assert!(offloaded.unwrap() > 2 * kept, "{offloaded:?}");
    assert!(with >= without + kept, "{with} {without}");
    // In memory, but two passes.
    inputs.settings.e2e_qp = inputs.settings.e2e_qp.map(|phase| E2eQpSettings {
        offload: false,
        e2e_epochs: 2,
        ..phase
    });
    assert!(lessons(&inputs).0.is_some());
}
