use super::adapter::AdapterArg;
use super::compute::ComputeArg;
use super::device::DeviceArg;
use super::inference::InferenceArg;
use super::model::resolve;
use super::progress::{check_interrupted, say};
use super::report::{check_report, write_report};
use crate::chat::Message;
use crate::error::Error;
use crate::generate::{answer, generate};
use crate::tune::Prompts;
use burn_eqat::ComputeType;
use burn_eqat::files::PackedSchemes;
use burn_eqat::lm::Sampler;
use serde::Serialize;
use std::path::PathBuf;

/// Write text from a prompt, with a full-precision or packed Llama
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Hugging Face directory, full-precision or packed [default: the bundled model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Beginning of the text
    #[arg(long, value_name = "TEXT", required_unless_present = "instruction")]
    prompt: Option<String>,
    /// An instruction to follow instead, as `llama tune` writes them: in the model's own chat template, or else in
    /// the Alpaca prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt")]
    instruction: Option<String>,
    /// Tokens to write at most
    #[arg(long, default_value_t = 200, value_name = "N")]
    max_new_tokens: usize,
    /// 0 takes the likeliest token each time; higher is more random
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    temperature: f64,
    /// Sample from the likeliest tokens whose probabilities add up to this
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    top_p: f64,
    /// Seed of the sampling
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    adapter: AdapterArg,
    #[command(flatten)]
    inference: InferenceArg,
    #[command(flatten)]
    compute: ComputeArg,
    #[command(flatten)]
    device: DeviceArg,
    /// Also write text and speed as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    model: PathBuf,
    #[serde(flatten)]
    adapter: AdapterArg,
    scheme: Option<PackedSchemes>,
    #[serde(flatten)]
    inference: InferenceArg,
    dtype: ComputeType,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction: Option<String>,
    text: String,
    tokens: usize,
    tokens_per_second: f64,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    check_report(args.report.as_deref())?;
    check_sampling(args.temperature, args.top_p)?;
    let device = args.device.device()?;
    let dir = resolve(args.model)?;
    let loaded = args.adapter.apply(args.compute.open(&dir, &device)?)?;
    let loaded = args.inference.prepare_to_write(loaded)?;
    let tokenizer = loaded.tokenizer()?;
    let mut sampler = Sampler::new(args.temperature, args.top_p, args.seed);
    let mut show = |piece: &str| {
        say(piece);
        check_interrupted()
    };
    let (limit, sampler) = (args.max_new_tokens, &mut sampler);
    let written = args
        .inference
        .run(|| match (&args.prompt, &args.instruction) {
            (None, Some(instruction)) => {
                let messages = [Message::new("user", instruction)];
                let prompt = Prompts::of(&loaded, &tokenizer)?.prompt(&messages)?;
                answer(
                    &loaded, &tokenizer, &prompt, limit, sampler, &device, &mut show,
                )
            }
            (prompt, _) => {
                let prompt = prompt.as_deref().unwrap_or_default();
                generate(
                    &loaded, &tokenizer, prompt, limit, sampler, &device, &mut show,
                )
            }
        })?;
    say("\n");
    let (tokens, speed) = (written.tokens, written.tokens_per_second);
    eprintln!("{tokens} tokens, {speed:.1} tokens per second");
    match &args.report {
        Some(path) => write_report(
            path,
            &Report {
                model: dir,
                adapter: args.adapter,
                scheme: loaded.schemes,
                inference: args.inference,
                dtype: loaded.model.compute_type(),
                prompt: args.prompt,
                instruction: args.instruction,
                text: written.text,
                tokens,
                tokens_per_second: speed,
            },
        ),
        None => Ok(()),
    }
}

/// Fails for invalid settings of a sampler.
pub(super) fn check_sampling(temperature: f64, top_p: f64) -> Result<(), Error> {
    if !(temperature.is_finite() && temperature >= 0.0) {
        let message = format!("--temperature is {temperature}, expected 0 or more");
        return Err(Error::Setting(message));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        let message = format!("--top-p is {top_p}, expected more than 0 and at most 1");
        return Err(Error::Setting(message));
    }
    Ok(())
}
