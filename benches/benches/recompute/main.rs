//! A step of E2E-QP on a Llama, end to end and by blocks: its time and the most memory that is in use in it, by the number of
//! blocks.
//!
//! Memory is what the program has allocated and not freed, the model and the optimizer among it, so that neither the allocator
//! nor how the model was made counts.

mod allocated;

use allocated::Counted;
use burn::tensor::Device;
use burn_eqat::lm::TokenWindows;
use burn_eqat::train::{DataSplit, E2eQpConfig, TrainError, TrainEvent};
use burn_eqat::{Quantize, Scheme};
use llama::LlamaConfig;
use llama::model::Llama;
use std::time::Instant;

#[global_allocator]
static ALLOCATED: Counted = Counted::new();

const BLOCKS: [usize; 3] = [4, 8, 16];
const HIDDEN: usize = 512;
const VOCAB: usize = 4096;
const SEQ: usize = 512;
const BATCH: usize = 4;
/// Steps of a run; the first makes the state of the optimizer and is not timed.
const STEPS: usize = 4;

/// What a step costs.
struct Cost {
    /// Bytes in use before the first step.
    before: usize,
    /// The most bytes in use.
    peak: usize,
    seconds: f64,
}

fn packed(blocks: usize, device: &Device) -> Result<Llama, Box<dyn std::error::Error>> {
    let config: LlamaConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 1408,
        "num_hidden_layers": blocks, "num_attention_heads": 8,
    }))?;
    let scheme: Scheme = "w2g64".parse()?;
    let model = config.init(device);
    Ok(model.quantize_rtn(&Llama::quantized_weights(), scheme)?)
}

fn measure(blocks: usize, recompute: bool) -> Result<Cost, Box<dyn std::error::Error>> {
    let device = Device::flex();
    device.seed(1);
    let model = packed(blocks, &device)?;
    let tokens = (0..STEPS * BATCH * SEQ).map(|i| (i * i % VOCAB) as i32);
    let data = TokenWindows::new(tokens.collect(), SEQ).loader(BATCH, None, &device);
    let none = TokenWindows::new(Vec::new(), SEQ).loader(BATCH, None, &device);
    let mut cost = Cost {
        before: 0,
        peak: 0,
        seconds: f64::INFINITY,
    };
    let mut last = None;
    let mut on_event = |event: TrainEvent| -> Result<(), TrainError> {
        match event {
            TrainEvent::SplitStart {
                split: DataSplit::Train,
                ..
            } => cost.before = ALLOCATED.restart(),
            TrainEvent::Batch { .. } => {
                cost.peak = ALLOCATED.peak();
                let now = Instant::now();
                if let Some(last) = last.replace(now) {
                    let seconds = now.duration_since(last).as_secs_f64();
                    cost.seconds = cost.seconds.min(seconds);
                }
            }
            _ => {}
        }
        Ok(())
    };
    let phase = E2eQpConfig::new().with_recompute(recompute).init();
    if recompute {
        phase.run_by_blocks(model, data, none, &mut on_event)?;
    } else {
        phase.run(model, data, none, &mut on_event)?;
    }
    Ok(cost)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!("hidden {HIDDEN}, {BATCH} windows of {SEQ} tokens, w2g64");
    println!("| blocks | | before the step, MiB | most in it, MiB | s a step |");
    println!("|---|---|---|---|---|");
    let mut growth = Vec::new();
    for (way, recompute) in [("end to end", false), ("by blocks", true)] {
        let mut peaks = Vec::new();
        for blocks in BLOCKS {
            let cost = measure(blocks, recompute)?;
            let (before, peak, seconds) = (mib(cost.before), mib(cost.peak), cost.seconds);
            println!("| {blocks} | {way} | {before:.1} | {peak:.1} | {seconds:.2} |");
            peaks.push(peak);
        }
        growth.push(peaks[BLOCKS.len() - 1] - peaks[0]);
    }
    let [plain, by_blocks] = growth[..] else {
        unreachable!("two ways were measured");
    };
    println!(
        "from {} to {} blocks: {plain:.1} MiB more end to end, {by_blocks:.1} by blocks, {:.1} % of that",
        BLOCKS[0],
        BLOCKS[BLOCKS.len() - 1],
        100.0 * by_blocks / plain
    );
    Ok(())
}
