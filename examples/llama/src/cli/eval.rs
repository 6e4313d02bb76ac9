use super::adapter::AdapterArg;
use super::bundled;
use super::compute::ComputeArg;
use super::device::DeviceArg;
use super::inference::InferenceArg;
use super::model::resolve;
use super::progress::{bar, moving};
use super::report::{check_report, write_report};
use crate::choices::{accuracy, read_questions};
use crate::error::Error;
use burn_eqat::ComputeType;
use burn_eqat::files::PackedSchemes;
use burn_eqat::lm::{perplexity, read_tokens};
use serde::Serialize;
use std::path::PathBuf;

/// Measure a full-precision or packed Llama
///
/// Perplexity on a text or on token windows, and accuracy on multiple-choice questions and minimal
/// pairs.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Hugging Face directory, full-precision or packed
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text to measure perplexity on [default: the bundled text, if nothing else is to be measured]
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    text: Option<PathBuf>,
    /// Token windows to measure perplexity on: tensor eval, i32 [samples, seq_len]
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Tokens per window of the text
    #[arg(long, default_value_t = 256, value_name = "N")]
    seq_len: usize,
    /// Questions: JSON lines with query, choices, gold, or with sentence_good, sentence_bad
    #[arg(long, num_args = 1.., value_name = "FILE")]
    choices: Vec<PathBuf>,
    #[command(flatten)]
    adapter: AdapterArg,
    #[command(flatten)]
    inference: InferenceArg,
    #[command(flatten)]
    compute: ComputeArg,
    #[command(flatten)]
    device: DeviceArg,
    /// Also write the results as JSON
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
    perplexity: Option<f64>,
    choices: Vec<Accuracy>,
}

#[derive(Serialize)]
struct Accuracy {
    file: PathBuf,
    questions: usize,
    accuracy: f64,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    check_report(args.report.as_deref())?;
    if args.seq_len < 2 {
        let message = format!("--seq-len is {}, expected 2 or more", args.seq_len);
        return Err(Error::Setting(message));
    }
    let device = args.device.device()?;
    let dir = resolve(Some(args.model))?;
    let loaded = args.adapter.apply(args.compute.open(&dir, &device)?)?;
    let vocab_size = loaded.config.vocab_size;

    let text = match (&args.text, &args.tokens) {
        (None, None) if args.choices.is_empty() => Some(bundled::eval_text()),
        (text, _) => text.clone(),
    };
    let windows = match (&text, &args.tokens) {
        (_, Some(path)) => Some(read_tokens(path, "eval", vocab_size)?),
        (Some(path), None) => {
            let windows = loaded.read_windows(path, args.seq_len)?;
            windows.check_vocabulary(vocab_size, "tokenizer.json")?;
            if windows.is_empty() {
                let message = format!("is shorter than a window of {} tokens", args.seq_len);
                return Err(Error::input(path, message));
            }
            Some(windows)
        }
        (None, None) => None,
    };
    let mut questions = Vec::new();
    for path in &args.choices {
        questions.push((path.clone(), read_questions(path)?));
    }

    let mut report = Report {
        model: dir,
        adapter: args.adapter,
        scheme: loaded.schemes.clone(),
        inference: args.inference,
        dtype: loaded.model.compute_type(),
        perplexity: None,
        choices: Vec::new(),
    };
    if let Some(windows) = windows {
        let limit = loaded.config.positions();
        if windows.seq_len() > limit {
            let seq_len = windows.seq_len();
            let message = format!("windows of {seq_len} tokens, expected at most {limit}");
            return Err(Error::Setting(message));
        }
        let bar = bar(0, "perplexity");
        let value = (args.inference)
            .run(|| perplexity(&loaded.model, &windows, &device, &mut moving(&bar)))?;
        let (count, seq_len) = (windows.len(), windows.seq_len());
        println!("perplexity {value:.4} ({count} windows of {seq_len} tokens)");
        report.perplexity = Some(value);
    }
    if !questions.is_empty() {
        let tokenizer = loaded.tokenizer()?;
        for (file, questions) in questions {
            let bar = bar(0, file.display().to_string());
            let accuracy = args.inference.run(|| {
                accuracy(
                    &loaded.model,
                    &loaded.config,
                    &tokenizer,
                    &questions,
                    &device,
                    &mut moving(&bar),
                )
            })?;
            let count = questions.len();
            println!(
                "accuracy {accuracy:.4} ({count} questions) {}",
                file.display()
            );
            report.choices.push(Accuracy {
                file,
                questions: count,
                accuracy,
            });
        }
    }
    match &args.report {
        Some(path) => write_report(path, &report),
        None => Ok(()),
    }
}
