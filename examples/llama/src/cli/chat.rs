use super::adapter::AdapterArg;
use super::compute::ComputeArg;
use super::device::DeviceArg;
use super::inference::InferenceArg;
use super::model::resolve;
use super::progress::{check_interrupted, say};
use crate::chat::{ChatTemplate, Message};
use crate::error::Error;
use crate::generate::answer;
use crate::tune::Prompts;
use burn_eqat::lm::Sampler;
use std::io::BufRead;
use std::path::PathBuf;

/// Talk to an instruct model
///
/// Each line of the standard input is a message; an empty line ends the conversation. Messages are formatted with
/// the model's own chat template. A model that has none and was tuned to instructions (--adapter) gets them in the
/// Alpaca prompt.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Hugging Face directory of an instruct model, dense or packed
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// System prompt, before the first message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Largest number of tokens of an answer
    #[arg(long, default_value_t = 512, value_name = "N")]
    max_new_tokens: usize,
    /// 0 takes the likeliest token; higher is more random
    #[arg(
        long,
        default_value_t = 0.7,
        value_name = "X",
        allow_negative_numbers = true
    )]
    temperature: f64,
    /// Samples from the likeliest tokens whose probabilities add up to this
    #[arg(
        long,
        default_value_t = 0.9,
        value_name = "X",
        allow_negative_numbers = true
    )]
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
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    super::generate::check_sampling(args.temperature, args.top_p)?;
    let device = args.device.device()?;
    let dir = resolve(Some(args.model))?;
    let loaded = args.adapter.apply(args.compute.open(&dir, &device)?)?;
    let loaded = args.inference.prepare_to_write(loaded)?;
    if !args.adapter.is_given() {
        // Without a template it is no instruct model.
        ChatTemplate::open(&dir)?;
    }
    let tokenizer = loaded.tokenizer()?;
    let prompts = Prompts::of(&loaded, &tokenizer)?;
    let mut sampler = Sampler::new(args.temperature, args.top_p, args.seed);
    let mut messages: Vec<Message> = Vec::new();
    messages.extend(args.system.iter().map(|text| Message::new("system", text)));
    loop {
        eprint!("> ");
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let read = read.map_err(|error| Error::Setting(format!("the standard input: {error}")))?;
        if read == 0 || line.trim().is_empty() {
            return Ok(());
        }
        messages.push(Message::new("user", line.trim()));
        let conversation = prompts.prompt(&messages)?;
        let mut show = |piece: &str| {
            say(piece);
            check_interrupted()
        };
        let written = args.inference.run(|| {
            let (limit, sampler) = (args.max_new_tokens, &mut sampler);
            answer(
                &loaded,
                &tokenizer,
                &conversation,
                limit,
                sampler,
                &device,
                &mut show,
            )
        })?;
        say("\n");
        messages.push(Message::new("assistant", written.text.trim()));
    }
}
