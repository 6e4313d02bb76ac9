mod args;
mod data;
mod run_flags;

pub(super) use args::Args;

use super::model::resolve;
use super::report::{check_report, write_report};
use super::run::{self, Run};
use super::training_progress::TrainingProgress;
use crate::error::Error;
use crate::load::{LoadedLlama, Tables};
use crate::tune::{Prompts, TuneConfig, Tuned, packed_schemes, tune};
use burn::tensor::Device;
use burn_eqat::ComputeType;
use burn_eqat::adapter::Adapter;
use burn_eqat::files::{FileError, PackedSchemes, check_room};
use burn_eqat::train::Rate;
use data::{Counts, Data};
use serde::Serialize;
use std::path::Path;

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
    /// As they were given.
    flags: &'a Args,
    /// As they were used.
    settings: TuneConfig,
}

/// What the run directory calls the conversations.
const CONVERSATIONS: &str = "conversations";

pub(super) fn run(args: Args) -> Result<(), Error> {
    let (mut args, resumed) = run::resume(args)?;
    // Nothing was there as the run began.
    args.force |= resumed.as_ref().is_some_and(Run::was_saving);
    args.check_numbers()?;
    args.check_targets()?;
    if resumed.is_none() {
        run::check(&args)?;
    }
    check_report(args.report.as_deref())?;
    TrainingProgress::check(args.tui)?;
    let device = args.device.device()?;
    // A run goes on in the type that it began in, whatever the default is there.
    let compute = args.compute.on(&device)?;
    args.compute.set(compute);
    device.seed(args.seed());
    let dir = resolve(args.model.clone())?;
    let loaded =
        LoadedLlama::open_with(&dir, &device, Tables::AsStored)?.with_compute_type(compute);
    let schemes = packed_schemes(&loaded)?.clone();
    if let Some(output) = &args.output {
        check_room(output, loaded.checkpoint.bytes() as u64)?;
    }
    let tokenizer = loaded.tokenizer()?;
    let prompts = Prompts::of(&loaded, &tokenizer)?;
    let kept = match &resumed {
        Some(run) => run.dir.kept_file(CONVERSATIONS)?,
        None => None,
    };
    let given = args.data.clone().unwrap_or_default();
    let data = Data::read(&args, kept.as_ref().unwrap_or(&given), &loaded, &prompts)?;
    println!("{}  {schemes}, in {}", dir.display(), prompts.name());
    println!("{}", data.counts.line());
    let run = match resumed {
        Some(run) => Some(run),
        None => run::begin(&args)?,
    };
    if let (Some(run), None) = (&run, kept) {
        run.dir.keep_file(CONVERSATIONS, |path| {
            std::fs::copy(&given, path).map_err(|error| FileError::invalid(path, error))?;
            Ok(())
        })?;
    }
    let job = Job {
        args: &args,
        loaded,
        schemes,
        prompt: prompts.name(),
        data,
        compute,
        device,
    };
    match (job.work(run.as_ref()), run) {
        (Ok(saved), run) => {
            run.map_or(Ok(()), Run::end)?;
            match saved {
                Saved::Yes => Ok(()),
                Saved::Worse => {
                    let message = "the answers became less likely, so nothing is saved: a lower --lr may help, or more data";
                    Err(Error::Setting(message.to_string()))
                }
            }
        }
        (Err(error), Some(run)) => {
            run.say_how_to_go_on();
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// What became of a tuned model.
enum Saved {
    Yes,
    /// It is worse than the one before.
    Worse,
}

/// The job itself, once everything that it was asked for makes sense.
struct Job<'a> {
    args: &'a Args,
    loaded: LoadedLlama,
    schemes: PackedSchemes,
    prompt: &'a str,
    data: Data,
    compute: ComputeType,
    device: Device,
}

impl Job<'_> {
    fn work(self, run: Option<&Run>) -> Result<Saved, Error> {
        let Self {
            args, loaded, data, ..
        } = &self;
        let mut training = TrainingProgress::new(args.tui);
        let tuned = tune(
            loaded,
            &data.train,
            &data.valid,
            &args.config(),
            &self.device,
            run.map(|run| run.dir.clone()),
            &mut |event| training.event(event),
        )?;
        training.clear();
        say_losses(&tuned);
        if tuned.is_worse() {
            return Ok(Saved::Worse);
        }
        run.map_or(Ok(()), Run::saves)?;
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
        if let Some(path) = &args.report {
            self.report(&tuned, adapter_bytes, path)?;
        }
        Ok(Saved::Yes)
    }

    fn report(&self, tuned: &Tuned, adapter_bytes: Option<u64>, path: &Path) -> Result<(), Error> {
        let report = Report {
            scheme: &self.schemes,
            prompt: self.prompt,
            conversations: self.data.counts,
            loss_before: tuned.comparison.map(|losses| losses.before),
            loss_after: tuned.comparison.map(|losses| losses.after),
            learning_rate: tuned.learning_rate,
            seconds: tuned.seconds,
            cpu_seconds: tuned.cpu_seconds,
            peak_rss_mb: tuned.peak_rss_mb,
            adapter_bytes,
            dtype: self.compute,
            flags: self.args,
            settings: self.args.config(),
        };
        write_report(path, &report)
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
