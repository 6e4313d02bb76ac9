mod args;
mod data;

pub(super) use args::Args;

use super::model::resolve;
use super::report::{check_report, write_report};
use super::training_progress::TrainingProgress;
use crate::error::Error;
use crate::load::{LoadedLlama, Tables};
use crate::tune::{Prompts, Tuned, packed_schemes, tune};
use burn_eqat::ComputeType;
use burn_eqat::adapter::Adapter;
use burn_eqat::files::{PackedSchemes, check_room};
use burn_eqat::train::Rate;
use data::{Counts, Data};
use serde::Serialize;

#[derive(Serialize)]
struct Report<'a> {
    scheme: &'a PackedSchemes,
    /// What the conversations are written in.
    prompt: &'a str,
    conversations: Counts,
    /// Mean loss of the validation answers, in nats a token.
    loss_before: Option<f64>,
    loss_after: Option<f64>,
    learning_rate: Option<Rate>,
    seconds: f64,
    cpu_seconds: Option<f64>,
    peak_rss_mb: Option<f64>,
    adapter_bytes: Option<u64>,
    dtype: ComputeType,
    settings: &'a Args,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    args.check_numbers()?;
    args.check_targets()?;
    check_report(args.report.as_deref())?;
    TrainingProgress::check(args.tui)?;
    let device = args.device.device()?;
    let compute = args.compute.on(&device)?;
    device.seed(args.seed);
    let dir = resolve(Some(args.model.clone()))?;
    let loaded =
        LoadedLlama::open_with(&dir, &device, Tables::AsStored)?.with_compute_type(compute);
    let schemes = packed_schemes(&loaded)?.clone();
    if let Some(output) = &args.output {
        check_room(output, loaded.checkpoint.bytes() as u64)?;
    }
    let tokenizer = loaded.tokenizer()?;
    let prompts = Prompts::of(&loaded, &tokenizer)?;
    let data = Data::read(&args, &loaded, &prompts)?;
    println!("{}  {schemes}, in {}", dir.display(), prompts.name());
    println!("{}", data.counts.line());

    let mut training = TrainingProgress::new(args.tui);
    let tuned = tune(
        &loaded,
        &data.train,
        &data.valid,
        &args.config(),
        &device,
        &mut |event| training.event(event),
    )?;
    training.clear();
    say_losses(&tuned);
    if tuned.is_worse() {
        let message = "the answers became less likely, so nothing is saved: a lower --lr may help, or more data";
        return Err(Error::Setting(message.to_string()));
    }
    let mut adapter_bytes = None;
    if let Some(path) = &args.adapter {
        Adapter::of(&tuned.model)?.save(path)?;
        let bytes = std::fs::metadata(path).map_err(Error::read(path))?.len();
        println!("saved to {} ({bytes} bytes)", path.display());
        adapter_bytes = Some(bytes);
    }
    if let Some(output) = &args.output {
        loaded.save_packed_or_rescue(&tuned.model, output, args.force)?;
        println!("saved to {}", output.display());
    }
    match &args.report {
        Some(path) => write_report(
            path,
            &Report {
                scheme: &schemes,
                prompt: prompts.name(),
                conversations: data.counts,
                loss_before: tuned.comparison.map(|losses| losses.before),
                loss_after: tuned.comparison.map(|losses| losses.after),
                learning_rate: tuned.learning_rate,
                seconds: tuned.seconds,
                cpu_seconds: tuned.cpu_seconds,
                peak_rss_mb: tuned.peak_rss_mb,
                adapter_bytes,
                dtype: compute,
                settings: &args,
            },
        ),
        None => Ok(()),
    }
}

/// Says what tuning did.
fn say_losses(tuned: &Tuned) {
    if let Some(losses) = tuned.comparison {
        let (before, after) = (losses.before, losses.after);
        println!(
            "answers: loss {before:.4} before, {after:.4} after (perplexity {:.3} and {:.3})",
            before.exp(),
            after.exp()
        );
    }
    println!("{:.1} s", tuned.seconds);
}
