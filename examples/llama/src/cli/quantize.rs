use super::bundled;
use super::device::DeviceArg;
use super::model::resolve;
use super::progress::{bar, check_interrupted, interrupter, moving};
use super::renderer::BarRenderer;
use super::report::{check_report, table_head, table_row, write_report};
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::Llama;
use crate::quantize::{Hooks, Method, QuantizeSettings, Rates, Stage, quantize};
use burn::tensor::Device;
use burn_eqat::files::{StagedDir, check_room};
use burn_eqat::kernels::Bits;
use burn_eqat::lm::{Calibration, LmError, TokenWindows, sample_windows};
use burn_eqat::{GroupSize, Scheme};
use clap::ValueEnum;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Take a Llama to 2, 3 or 4 bits per weight
///
/// Prints perplexity and size after each stage (full precision, round to nearest, Block-AP, E2E-QP)
/// and saves the packed model. Without arguments it quantizes the small model that comes with this
/// program, in a few minutes on two cores.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Hugging Face directory of a full-precision model, or of a packed one to train on by E2E-QP
    /// [default: the bundled model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Bits and group size: w2g64, w3g128, w4g-1 (one group per column), w4g64-sym (symmetric)
    /// [default: w2g64, or that of a packed model]
    #[arg(long, value_name = "SCHEME")]
    scheme: Option<Scheme>,
    /// How far to go
    #[arg(long, value_enum, default_value_t = Method::EfficientQat)]
    method: Method,
    /// Where to save the packed model; with E2E-QP to come, what Block-AP made is saved there first
    /// [default: not saved]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Calibration text: a .txt or .jsonl file, or `self` to have the model write it
    #[arg(long, default_value = "self", value_name = "FILE|self")]
    calibration: PathBuf,
    /// Calibration tokens instead: tensors calib, val, e2e, eval, each i32 [samples, seq_len]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["calibration", "eval_text", "seq_len"])]
    calibration_tokens: Option<PathBuf>,
    /// Text to measure perplexity on [default: the bundled text for the bundled model, else a held-out
    /// part of the calibration]
    #[arg(long, value_name = "FILE")]
    eval_text: Option<PathBuf>,
    /// Windows that Block-AP trains on
    #[arg(long, default_value_t = 256, value_name = "N")]
    train_size: usize,
    /// Windows that the phases are validated on
    #[arg(long, default_value_t = 32, value_name = "N")]
    val_size: usize,
    /// Tokens of a window
    #[arg(long, default_value_t = 256, value_name = "N")]
    seq_len: usize,
    /// Windows of a Block-AP step
    #[arg(long, default_value_t = 4, value_name = "N")]
    batch_size: usize,
    /// Epochs of each block in Block-AP
    #[arg(long, default_value_t = 2, value_name = "N")]
    epochs: usize,
    /// Learning rate of step sizes and zero points in Block-AP [default: 1e-3 at 2 and 3 bits, 5e-4 at
    /// 4, 1e-4 at 8]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    quant_lr: Option<f64>,
    /// Learning rate of weights and norms in Block-AP [default: 5e-4 at 2 and 3 bits, 1e-4 at 4, 1e-5
    /// at 8]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_lr: Option<f64>,
    /// Windows that E2E-QP trains on
    #[arg(long, default_value_t = 512, value_name = "N")]
    e2e_size: usize,
    /// Windows of an E2E-QP step
    #[arg(long, default_value_t = 16, value_name = "N")]
    e2e_batch: usize,
    /// Epochs of E2E-QP
    #[arg(long, default_value_t = 1, value_name = "N")]
    e2e_epochs: usize,
    /// Learning rate of step sizes in E2E-QP [default: 2e-4 at 2 bits, 1e-4 at 3, 1.5e-5 at 4, 1e-6 at
    /// 8]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    e2e_lr: Option<f64>,
    /// Seed of everything random
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
    /// Replace the output directory if there is one
    #[arg(long)]
    force: bool,
    /// Write what is printed as JSON, too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Args {
    /// Whether each block is needed once: nothing is trained, and the model writes no text.
    pub(super) fn goes_through_once(&self) -> bool {
        self.method == Method::Rtn && !self.writes_calibration()
    }

    fn writes_calibration(&self) -> bool {
        self.calibration_tokens.is_none() && self.calibration.as_os_str() == "self"
    }
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    scheme: Scheme,
    stages: &'a [Stage],
    settings: &'a QuantizeSettings,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    check_numbers(&args)?;
    if let Some(output) = &args.output {
        StagedDir::check(output, args.force)?;
        check_room(output, 0)?;
    }
    check_report(args.report.as_deref())?;
    let device = args.device.device();
    device.seed(args.seed);
    let dir = resolve(args.model.clone())?;
    // A model that writes its calibration text has to be there as a whole; else a block at a time will do.
    let writes = args.writes_calibration();
    let mut loaded = match writes {
        true => LoadedLlama::open(&dir, &device)?,
        false => LoadedLlama::open_by_block(&dir, &device)?,
    };
    let scheme = match loaded.scheme {
        Some(packed) => {
            check_packed(&args, &dir, packed)?;
            loaded = LoadedLlama::open(&dir, &device)?;
            if let Some(output) = &args.output {
                loaded.check_room(&loaded.model, output, 1)?;
            }
            packed
        }
        None => {
            let scheme = args.scheme.unwrap_or_else(default_scheme);
            let skeleton = check_scheme(&loaded, scheme, &device)?;
            if let Some(output) = &args.output {
                // The model after Block-AP is still there when the last one is written.
                loaded.check_room(&skeleton, output, 2)?;
            }
            scheme
        }
    };
    let settings = settings(&args, scheme)?;
    let data = calibration(&args, &settings, &loaded, &device)?;
    if writes && loaded.scheme.is_none() {
        // Its text is written; from here on a block at a time will do.
        loaded = LoadedLlama::open_by_block(&dir, &device)?;
    }

    println!("{}  {scheme}", dir.display());
    println!("{}", table_head());
    let mut evaluation = None;
    let mut saved = false;
    let mut hooks = Hooks {
        interrupter: interrupter(),
        renderer: &|stage| Box::new(BarRenderer::new(stage)),
        evaluating: &mut |stage, done, total| {
            let bar = evaluation.get_or_insert_with(|| bar(total, format!("evaluate {stage}")));
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
                evaluation = None;
            }
            check_interrupted()
        },
        finished: &mut |stage, model| {
            println!("{}", table_row(stage));
            // Block-AP takes long; what it made is safe while E2E-QP goes on.
            match (&args.output, stage.name.as_str()) {
                (Some(output), "block-ap") if args.method > Method::BlockAp => {
                    saved = true;
                    loaded.save_packed_or_rescue(model, output, args.force)
                }
                _ => Ok(()),
            }
        },
    };
    let (packed, stages) = quantize(&loaded, &data, &settings, &device, &mut hooks)?;
    if let Some(output) = &args.output {
        // The directory may hold the model after Block-AP by now, which this one replaces.
        let force = args.force || saved;
        loaded.save_packed_or_rescue(&packed, output, force)?;
        println!("saved to {}", output.display());
    }
    if let Some(path) = &args.report {
        let report = Report {
            model: &dir,
            scheme,
            stages: &stages,
            settings: &settings,
        };
        write_report(path, &report)?;
    }
    Ok(())
}

fn default_scheme() -> Scheme {
    Scheme::new(Bits::Two, GroupSize::rows(64))
}

/// Refuses what cannot be done with a model that is packed already.
fn check_packed(args: &Args, dir: &Path, packed: Scheme) -> Result<(), Error> {
    if let Some(scheme) = args.scheme.filter(|scheme| *scheme != packed) {
        let message = format!("is packed in {packed}, expected full precision for {scheme}");
        return Err(Error::input(dir, message));
    }
    match args.method {
        Method::EfficientQat => Ok(()),
        _ => {
            let message = format!(
                "is packed already ({packed}), expected full precision for --method {}",
                args.method
                    .to_possible_value()
                    .map_or(String::new(), |v| v.get_name().to_string())
            );
            Err(Error::input(dir, message))
        }
    }
}

fn check_numbers(args: &Args) -> Result<(), Error> {
    for (name, value) in [
        ("--train-size", args.train_size),
        ("--batch-size", args.batch_size),
        ("--epochs", args.epochs),
        ("--e2e-size", args.e2e_size),
        ("--e2e-batch", args.e2e_batch),
        ("--e2e-epochs", args.e2e_epochs),
    ] {
        // More than a billion is a slip of the keyboard, and would overflow sums.
        let limit = 1 << 30;
        if value == 0 || value > limit {
            let message = format!("{name} is {value}, expected 1 to {limit}");
            return Err(Error::Setting(message));
        }
    }
    if args.seq_len < 2 {
        let message = format!("--seq-len is {}, expected 2 or more", args.seq_len);
        return Err(Error::Setting(message));
    }
    Ok(())
}

fn settings(args: &Args, scheme: Scheme) -> Result<QuantizeSettings, Error> {
    let default = Rates::for_bits(scheme.bits);
    let rate = |name: &str, given: Option<f64>, default: f64| match given {
        Some(rate) if !(rate.is_finite() && rate >= 0.0) => {
            let message = format!("{name} is {rate}, expected a number that is not negative");
            Err(Error::Setting(message))
        }
        given => Ok(given.unwrap_or(default)),
    };
    Ok(QuantizeSettings {
        scheme,
        method: args.method,
        train_size: args.train_size,
        val_size: args.val_size,
        batch_size: args.batch_size,
        epochs: args.epochs,
        e2e_size: args.e2e_size,
        e2e_batch: args.e2e_batch,
        e2e_epochs: args.e2e_epochs,
        rates: Rates {
            quant: rate("--quant-lr", args.quant_lr, default.quant)?,
            weight: rate("--weight-lr", args.weight_lr, default.weight)?,
            e2e: rate("--e2e-lr", args.e2e_lr, default.e2e)?,
        },
        seed: args.seed,
    })
}

/// Refuses a scheme that does not fit before any time is spent; the packed model, without data.
fn check_scheme(loaded: &LoadedLlama, scheme: Scheme, device: &Device) -> Result<Llama, Error> {
    use burn_eqat::Quantize;
    let model = loaded.config.init(device);
    Ok(model.attach_packed(&Llama::quantized_weights(), scheme)?)
}

fn calibration(
    args: &Args,
    settings: &QuantizeSettings,
    loaded: &LoadedLlama,
    device: &Device,
) -> Result<Calibration, Error> {
    let vocab_size = loaded.config.vocab_size;
    let limit = loaded.config.positions();
    let too_long = |seq_len: usize| match seq_len > limit {
        true => {
            let message = format!("windows of {seq_len} tokens, expected at most {limit}");
            Err(Error::Setting(message))
        }
        false => Ok(()),
    };
    if let Some(path) = &args.calibration_tokens {
        let mut sizes = settings.sizes();
        if loaded.scheme.is_some() {
            // Only E2E-QP is to come.
            sizes.train = 0;
        }
        let data = Calibration::from_tokens(path, sizes, vocab_size)?;
        for windows in [&data.train, &data.valid, &data.e2e, &data.eval] {
            too_long(windows.seq_len())?;
        }
        return Ok(data);
    }
    too_long(args.seq_len)?;
    let eval = match (&args.eval_text, &args.model) {
        (Some(path), _) => Some((path.clone(), loaded.read_windows(path, args.seq_len)?)),
        (None, None) => {
            let path = bundled::eval_text();
            let windows = loaded.read_windows(&path, args.seq_len)?;
            Some((path, windows))
        }
        (None, Some(_)) => None,
    };
    let windows = match args.writes_calibration() {
        true => self_calibration(args, settings, loaded, device)?,
        false => loaded.read_windows(&args.calibration, args.seq_len)?,
    };
    windows.check_vocabulary(vocab_size, "tokenizer.json")?;
    let mut data =
        Calibration::split(&windows, settings.sizes(), args.seed).map_err(|error| match error {
            LmError::TooFewWindows { .. } => Error::input(&args.calibration, error),
            error => error.into(),
        })?;
    if let Some((path, windows)) = eval {
        if windows.is_empty() {
            let message = format!("is shorter than a window of {} tokens", args.seq_len);
            return Err(Error::input(&path, message));
        }
        windows.check_vocabulary(vocab_size, "tokenizer.json")?;
        data.eval = windows;
    }
    Ok(data)
}

/// Windows that the model writes itself: as many as the phases want, and a tenth for evaluation.
fn self_calibration(
    args: &Args,
    settings: &QuantizeSettings,
    loaded: &LoadedLlama,
    device: &Device,
) -> Result<TokenWindows, Error> {
    let wanted = match settings.method {
        // Nothing trains; a tenth of these is measured on where there is no evaluation text.
        Method::Rtn => 320,
        Method::BlockAp => settings.train_size + settings.val_size,
        Method::EfficientQat => settings.train_size.max(settings.e2e_size) + settings.val_size,
    };
    let count = (wanted * 10).div_ceil(9).max(10);
    let config = &loaded.config;
    let bos = config.bos_token_id.or(config.eos_token()).unwrap_or(0);
    let shape = [count, args.seq_len];
    let bar = bar(0, "sample calibration text");
    let mut progress = moving(&bar);
    let windows = sample_windows(&loaded.model, bos, shape, args.seed, device, &mut progress)?;
    Ok(windows)
}
