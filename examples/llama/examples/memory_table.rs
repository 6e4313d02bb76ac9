//! Writes the table of `docs/memory.md`: what models that there are take by plan, at the paper's settings.
//!
//!     cargo run -p llama --example memory_table

use burn::tensor::DType;
use burn_eqat::ComputeType;
use burn_eqat::train::CacheConfig;
use burn_eqat::{Method, Schemes, StartValues};
use llama::plan::{Place, Plan, PlanInputs, plan};
use llama::{BlockApSettings, E2eQpSettings, LlamaConfig, QuantizeSettings, Rates};
use serde_json::json;

/// A model: its name, hidden and inner width, blocks, heads, key heads, vocabulary.
const MODELS: [(&str, [usize; 6]); 5] = [
    ("Llama-2-7B", [4096, 11008, 32, 32, 32, 32000]),
    ("Llama-2-13B", [5120, 13824, 40, 40, 40, 32000]),
    ("Llama-2-70B", [8192, 28672, 80, 64, 8, 32000]),
    ("Llama-3-8B", [4096, 14336, 32, 32, 8, 128256]),
    ("Llama-3-70B", [8192, 28672, 80, 64, 8, 128256]),
];

/// The paper's figures in GB, for Block-AP and E2E-QP.
const PAPER: [(&str, [f64; 2]); 2] = [("Llama-2-7B", [8.5, 5.6]), ("Llama-2-70B", [29.9, 34.2])];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", table()?);
    Ok(())
}

/// The table, in Markdown.
fn table() -> Result<String, Box<dyn std::error::Error>> {
    let mut lines = vec![
        "| model | scheme | packed | Block-AP, device | the paper's | Block-AP, disk | E2E-QP, device | with `--offload` | the paper's | steps |".to_string(),
        "|---|---|---|---|---|---|---|---|---|---|".to_string(),
    ];
    for (name, sizes) in MODELS {
        let paper = PAPER.iter().find(|(model, _)| *model == name);
        let paper =
            |phase: usize| paper.map_or("".to_string(), |(_, gb)| format!("{} GB", gb[phase]));
        for scheme in ["w2g64", "w2g128"] {
            let resident = plan(&inputs(sizes, scheme, false)?)?;
            let offloaded = plan(&inputs(sizes, scheme, true)?)?;
            let of = |plan: &Plan, phase: &str, place| {
                let phase = plan.phase(phase).map(|phase| plan.bytes(phase, place));
                gb(phase.unwrap_or_default())
            };
            let steps = |phase: &str| resident.phase(phase).map_or(0, |phase| phase.steps);
            lines.push(format!(
                "| {name} | {scheme} | {} | {} | {} | {} | {} | {} | {} | {} and {} |",
                gb(resident.bytes_after),
                of(&resident, "block-ap", Place::Device),
                paper(0),
                of(&resident, "block-ap", Place::Disk),
                of(&resident, "e2e-qp", Place::Device),
                of(&offloaded, "e2e-qp", Place::Device),
                paper(1),
                steps("block-ap"),
                steps("e2e-qp"),
            ));
        }
    }
    Ok(lines.join("\n"))
}

fn gb(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// A run of the paper's sizes in bf16, on a device with a memory of its own.
fn inputs(
    [hidden, inner, blocks, heads, key_heads, vocab]: [usize; 6],
    scheme: &str,
    offload: bool,
) -> Result<PlanInputs, Box<dyn std::error::Error>> {
    let config: LlamaConfig = serde_json::from_value(json!({
        "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": blocks,
        "num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": 4096,
    }))?;
    config.check()?;
    let scheme = scheme.parse()?;
    Ok(PlanInputs {
        config,
        file: DType::BF16,
        file_bytes: None,
        packed: false,
        schemes: Schemes::new(scheme),
        bits_budget: None,
        writes_calibration: false,
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
            // Together the paper's 32 windows.
            e2e_qp: Some(E2eQpSettings {
                e2e_size: 4096,
                e2e_batch: 1,
                e2e_epochs: 1,
                grad_accum: 32,
                recompute: true,
                offload,
                distillation: None,
                e2e_ap: None,
            }),
            rates: Rates::default(),
            seed: 42,
        },
        eval: 128,
        // On GPUs the ops of a transformer are Burn's.
        fused: false,
        devices: 1,
        separate_device: true,
        bf16: true,
        run_dir: true,
        output: true,
    })
}
