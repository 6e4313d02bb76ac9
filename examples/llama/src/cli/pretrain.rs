use super::device::DeviceArg;
use super::progress::{bar, check_interrupted};
use crate::error::Error;
use crate::model::Llama;
use crate::pretrain::{PretrainConfig, pretrain};
use crate::rescue::save_or_rescue;
use burn::tensor::DType;
use burn_eqat::files::{StagedDir, check_room, save_model};
use burn_eqat::lm::read_documents;
use serde_json::json;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Train a small Llama from scratch, like the bundled model
///
/// Trains a byte-level BPE tokenizer and a Llama on texts. Saves them as a Hugging Face directory in bf16
/// after each epoch.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Training texts: documents separated by lines `<|endoftext|>`, or `.jsonl` with a field `text`
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Where to save the model
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace the output directory if there is one
    #[arg(long)]
    force: bool,
    /// Passes over the text
    #[arg(long, default_value_t = 10, value_name = "N")]
    epochs: usize,
    /// Windows of a step
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch_size: usize,
    /// Tokens of a window
    #[arg(long, default_value_t = 256, value_name = "N")]
    seq_len: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-3, value_name = "X")]
    learning_rate: f64,
    /// Tokens in the vocabulary
    #[arg(long, default_value_t = 1024, value_name = "N")]
    vocab_size: usize,
    /// Width of the hidden state
    #[arg(long, default_value_t = 128, value_name = "N")]
    hidden_size: usize,
    /// Width inside the feed-forward layers
    #[arg(long, default_value_t = 384, value_name = "N")]
    intermediate_size: usize,
    /// Decoder blocks
    #[arg(long, default_value_t = 6, value_name = "N")]
    layers: usize,
    /// Query heads
    #[arg(long, default_value_t = 4, value_name = "N")]
    heads: usize,
    /// Key and value heads
    #[arg(long, default_value_t = 2, value_name = "N")]
    kv_heads: usize,
    /// Seed of the weights and of the order of the windows
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    StagedDir::check(&args.output, args.force)?;
    let mut documents = Vec::new();
    for path in &args.text {
        documents.extend(read_documents(path)?);
    }
    let config = PretrainConfig::new()
        .with_epochs(args.epochs)
        .with_batch_size(args.batch_size)
        .with_seq_len(args.seq_len)
        .with_learning_rate(args.learning_rate)
        .with_vocab_size(args.vocab_size)
        .with_hidden_size(args.hidden_size)
        .with_intermediate_size(args.intermediate_size)
        .with_layers(args.layers)
        .with_heads(args.heads)
        .with_kv_heads(args.kv_heads)
        .with_seed(args.seed);
    check_room(&args.output, bytes(&config))?;

    let bar = bar(0, "pretrain");
    let mut saved = args.force;
    let mut sum = (0.0, 0usize);
    pretrain(
        &config,
        &documents,
        &args.device.device()?,
        |step, tokenizer| {
            check_interrupted()?;
            bar.set_length(step.steps as u64);
            match step.finished_epoch {
                None => {
                    bar.set_position(step.step as u64);
                    bar.set_message(format!("loss {:.3}", step.loss));
                    sum = (sum.0 + step.loss, sum.1 + 1);
                }
                Some(model) => {
                    let mean = sum.0 / sum.1.max(1) as f64;
                    sum = (0.0, 0);
                    println!("step {} of {}: mean loss {mean:.4}", step.step, step.steps);
                    save_or_rescue(&args.output, saved, |output, force| {
                        save(&config, model, tokenizer, output, force)
                    })?;
                    saved = true;
                }
            }
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    println!("saved to {}", args.output.display());
    Ok(())
}

/// The approximate bytes for saving: two per weight. The last epoch's model still exists while the next one is
/// written.
fn bytes(config: &PretrainConfig) -> u64 {
    let size = |number: usize| number as f64;
    let (hidden, inner) = (size(config.hidden_size), size(config.intermediate_size));
    let block = 4.0 * hidden * hidden + 3.0 * hidden * inner;
    let weights = size(config.vocab_size) * hidden + size(config.layers) * block;
    (2.0 * 2.0 * weights) as u64
}

fn save(
    config: &PretrainConfig,
    model: &Llama,
    tokenizer: &Tokenizer,
    output: &Path,
    force: bool,
) -> Result<(), Error> {
    let staged = StagedDir::begin(output, force)?;
    let mut json = serde_json::to_value(config.model()).expect("numbers and names");
    json["architectures"] = json!(["LlamaForCausalLM"]);
    json["torch_dtype"] = json!("bfloat16");
    save_model(&round_to_bf16(model.clone()), &json, DType::BF16, &staged)?;
    let path = staged.path().join("tokenizer.json");
    tokenizer
        .save(&path, false)
        .map_err(|error| Error::input(&path, error))?;
    Ok(staged.commit()?)
}

/// Rounds every float to bf16, so that saving in bf16 is lossless.
fn round_to_bf16(model: Llama) -> Llama {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::Tensor;
    struct Round;
    impl ModuleMapper for Round {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let dtype = tensor.dtype();
                tensor.cast(DType::BF16).cast(dtype)
            })
        }
    }
    model.map(&mut Round)
}
