use super::adapter::AdapterArg;
use super::bundled;
use super::compute::ComputeArg;
use super::device::DeviceArg;
use super::inference::InferenceArg;
use super::model::resolve;
use super::numbers::check_seq_len;
use super::progress::{bar, moving};
use super::report::{check_report, write_report};
use crate::choices::{Question, Score, Scorer, read_questions, score};
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::protocol::Protocol;
use burn_eqat::ComputeType;
use burn_eqat::files::PackedSchemes;
use burn_eqat::lm::{TokenWindows, perplexity, read_tokens};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Tokens of a window, unless `--seq-len` says it.
const SEQ_LEN: usize = 256;
/// Tokens of a window in the literature.
const PROTOCOL_SEQ_LEN: usize = 2048;

/// Measure a full-precision or packed Llama
///
/// Perplexity on a text or on token windows, by the protocols of the literature too, and accuracy on multiple-choice
/// questions and minimal pairs as lm-evaluation-harness measures it.
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
    /// Cut the text as the literature does, to compare with published perplexities
    #[arg(long, value_name = "NAME", requires = "text")]
    protocol: Option<Protocol>,
    /// Tokens per window of the text [default: 256; with --protocol 2048, or as many as the model takes]
    #[arg(long, value_name = "N")]
    seq_len: Option<usize>,
    /// Questions: JSON lines with query, choices, gold (ARC, PIQA, COPA), with context_options, continuation, gold
    /// (WinoGrande), or with sentence_good, sentence_bad (BLiMP)
    #[arg(long, num_args = 1.., value_name = "FILE")]
    choices: Vec<PathBuf>,
    /// Answered questions in front of each question: the first others of its file
    #[arg(long, default_value_t = 0, value_name = "N", requires = "choices")]
    shots: usize,
    /// Ask only the first questions of each file
    #[arg(long, value_name = "N", requires = "choices")]
    limit: Option<usize>,
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
    protocol: Option<Protocol>,
    seq_len: Option<usize>,
    perplexity: Option<f64>,
    choices: Vec<Task>,
}

/// A file of questions. The names are those of lm-evaluation-harness.
#[derive(Serialize)]
struct Task {
    file: PathBuf,
    questions: usize,
    shots: usize,
    acc: f64,
    acc_stderr: Option<f64>,
    acc_norm: Option<f64>,
    acc_norm_stderr: Option<f64>,
}

impl Task {
    fn new(file: PathBuf, shots: usize, score: Score) -> Self {
        Self {
            file,
            questions: score.questions,
            shots,
            acc: score.acc.mean,
            acc_stderr: score.acc.stderr,
            acc_norm: score.acc_norm.map(|estimate| estimate.mean),
            acc_norm_stderr: score.acc_norm.and_then(|estimate| estimate.stderr),
        }
    }

    /// The line of the table.
    fn row(&self) -> String {
        let name = task_name(&self.file);
        let counts = format!("{:>9} {:>6}", self.questions, self.shots);
        let acc = estimate(Some(self.acc), self.acc_stderr);
        let acc_norm = estimate(self.acc_norm, self.acc_norm_stderr);
        format!("{name:<44} {counts} {acc} {acc_norm}")
            .trim_end()
            .to_string()
    }
}

/// The head of the table of tasks.
fn task_head() -> String {
    let (value, stderr) = (["acc", "acc_norm"], "stderr");
    let columns = value
        .map(|value| format!("{value:>9} {stderr:>7}"))
        .join(" ");
    let line = format!("{:<44} {:>9} {:>6} {columns}", "task", "questions", "shots");
    let rule = "-".repeat(line.len());
    format!("{line}\n{rule}")
}

/// A value and its standard error, or nothing.
fn estimate(value: Option<f64>, stderr: Option<f64>) -> String {
    let shown = |value: Option<f64>| value.map(|value| format!("{value:.4}")).unwrap_or_default();
    format!("{:>9} {:>7}", shown(value), shown(stderr))
}

/// What a file of questions is called.
fn task_name(file: &Path) -> String {
    let name = file.file_stem().unwrap_or(file.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The windows to measure perplexity on, if any are asked for.
fn windows(args: &Args, loaded: &LoadedLlama) -> Result<Option<TokenWindows>, Error> {
    let (vocab_size, limit) = (loaded.config.vocab_size, loaded.config.positions());
    let text = match (&args.text, &args.tokens) {
        (None, None) if args.choices.is_empty() => Some(bundled::eval_text()),
        (text, _) => text.clone(),
    };
    let windows = match (&text, &args.tokens) {
        (_, Some(path)) => read_tokens(path, "eval", vocab_size)?,
        (Some(path), None) => {
            let default = match args.protocol {
                Some(_) => PROTOCOL_SEQ_LEN.min(limit),
                None => SEQ_LEN,
            };
            let seq_len = args.seq_len.unwrap_or(default);
            let windows = match args.protocol {
                Some(protocol) => {
                    let bos = loaded.config.special_tokens().bos;
                    protocol.windows(path, &loaded.tokenizer()?, bos, seq_len)?
                }
                None => loaded.read_windows(path, seq_len)?,
            };
            windows.check_vocabulary(vocab_size, "tokenizer.json")?;
            if windows.is_empty() {
                let message = format!("is shorter than a window of {seq_len} tokens");
                return Err(Error::input(path, message));
            }
            windows
        }
        (None, None) => return Ok(None),
    };
    if windows.seq_len() > limit {
        let seq_len = windows.seq_len();
        let message = format!("windows of {seq_len} tokens, expected at most {limit}");
        return Err(Error::Setting(message));
    }
    Ok(Some(windows))
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    check_report(args.report.as_deref())?;
    check_seq_len(args.seq_len)?;
    if args.limit == Some(0) {
        return Err(Error::Setting(
            "--limit is 0, expected 1 or more".to_string(),
        ));
    }
    let device = args.device.device()?;
    let dir = resolve(Some(args.model.clone()))?;
    let loaded = args.adapter.apply(args.compute.open(&dir, &device)?)?;
    let loaded = args.inference.prepare(loaded)?;
    let windows = windows(&args, &loaded)?;
    let mut tasks: Vec<(PathBuf, Vec<Question>)> = Vec::new();
    for path in &args.choices {
        tasks.push((path.clone(), read_questions(path)?));
    }

    let mut report = Report {
        model: dir,
        adapter: args.adapter,
        scheme: loaded.schemes.clone(),
        inference: args.inference,
        dtype: loaded.model.compute_type(),
        protocol: args.protocol,
        seq_len: windows.as_ref().map(TokenWindows::seq_len),
        perplexity: None,
        choices: Vec::new(),
    };
    if let Some(windows) = windows {
        let bar = bar(0, "perplexity");
        let value = (args.inference)
            .run(|| perplexity(&loaded.model, &windows, &device, &mut moving(&bar)))?;
        let (count, seq_len) = (windows.len(), windows.seq_len());
        println!("perplexity {value:.4} ({count} windows of {seq_len} tokens)");
        report.perplexity = Some(value);
    }
    if !tasks.is_empty() {
        let scorer = Scorer::new(&loaded, &device)?;
        println!("{}", task_head());
        for (file, questions) in tasks {
            let bar = bar(0, task_name(&file));
            let score = args.inference.run(|| {
                let progress = &mut moving(&bar);
                score(&scorer, &questions, args.shots, args.limit, progress)
            })?;
            let task = Task::new(file, args.shots, score);
            println!("{}", task.row());
            report.choices.push(task);
        }
    }
    match &args.report {
        Some(path) => write_report(path, &report),
        None => Ok(()),
    }
}
