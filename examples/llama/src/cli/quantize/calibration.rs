//! The training and evaluation windows of the job.

use super::Args;
use crate::cli::bundled;
use crate::cli::progress::{bar, moving};
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::quantize::QuantizeSettings;
use burn::tensor::Device;
use burn_eqat::RunDir;
use burn_eqat::lm::{
    Calibration, CalibrationSizes, LmError, TokenWindows, read_tokens, sample_more_windows,
    save_tokens,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The number of windows to generate if nothing is trained. A tenth of them is for evaluation.
const ONLY_MEASURED: usize = 320;

/// What the run directory calls the windows.
const WINDOWS: &str = "windows.safetensors";

/// What it calls those that the model has written by then, and their tensor.
const WRITTEN: &str = "written.safetensors";
const TENSOR: &str = "windows";

/// What it calls how many there were.
const SIZES: &str = "windows";

/// The windows of a run that goes on; else what the settings ask for, which a run keeps.
pub(super) fn kept_calibration(
    args: &Args,
    settings: &QuantizeSettings,
    loaded: &LoadedLlama,
    device: &Device,
    run: Option<&RunDir>,
) -> Result<Calibration, Error> {
    let Some(run) = run else {
        return calibration(args, settings, loaded, device, None);
    };
    if let Some(data) = kept(run, loaded.config.vocab_size)? {
        return Ok(data);
    }
    let data = calibration(args, settings, loaded, device, Some(run))?;
    // In this order: a file that is there has its sizes.
    run.set_note(SIZES, json!((data.used(), data.available)))?;
    run.keep_file(WINDOWS, |path| data.save(path))?;
    Ok(data)
}

/// The windows that a run has kept.
pub(super) fn kept(run: &RunDir, vocab_size: usize) -> Result<Option<Calibration>, Error> {
    let (Some(path), Some(sizes)) = (run.kept_file(WINDOWS)?, run.note(SIZES)) else {
        return Ok(None);
    };
    let (used, available): (CalibrationSizes, usize) = serde_json::from_value(sizes)
        .map_err(|error| Error::input(run.path(), format!("{SIZES}: {error}")))?;
    let data = Calibration::from_tokens(&path, used, vocab_size)?;
    Ok(Some(Calibration { available, ..data }))
}

/// Reads or writes what the settings ask for.
fn calibration(
    args: &Args,
    settings: &QuantizeSettings,
    loaded: &LoadedLlama,
    device: &Device,
    run: Option<&RunDir>,
) -> Result<Calibration, Error> {
    let vocab_size = loaded.config.vocab_size;
    let limit = loaded.config.positions();
    let check_length = |seq_len: usize| {
        if seq_len > limit {
            let message = format!("windows of {seq_len} tokens, expected at most {limit}");
            return Err(Error::Setting(message));
        }
        Ok(())
    };
    if let Some(path) = &args.calibration_tokens {
        let data = Calibration::from_tokens(path, settings.sizes(), vocab_size)?;
        for windows in [&data.train, &data.valid, &data.e2e, &data.eval] {
            check_length(windows.seq_len())?;
        }
        return Ok(data);
    }
    let seq_len = settings.seq_len;
    check_length(seq_len)?;
    let eval = match eval_path(args) {
        Some(path) => Some(eval_windows(&path, seq_len, loaded)?),
        None => None,
    };
    if let Some(eval) = eval.as_ref().filter(|_| !args.needs_calibration()) {
        let none = || TokenWindows::new(Vec::new(), seq_len);
        return Ok(Calibration {
            train: none(),
            valid: none(),
            e2e: none(),
            eval: eval.clone(),
            available: eval.len(),
        });
    }
    let windows = match args.calibration_file() {
        Some(path) => loaded.read_windows(path, seq_len)?,
        None => self_calibration(args, settings, loaded, device, run)?,
    };
    windows.check_vocabulary(vocab_size, "tokenizer.json")?;
    let split = Calibration::split(&windows, settings.sizes(), args.seed());
    let mut data = split.map_err(|error| match (error, args.calibration_file()) {
        (error @ LmError::TooFewWindows { .. }, Some(path)) => Error::input(path, error),
        (error, _) => error.into(),
    })?;
    say_what_there_was(args, settings, &data);
    if let Some(eval) = eval {
        data.eval = eval;
    }
    Ok(data)
}

/// The text to measure perplexity on, if it is not a part of the calibration.
pub(super) fn eval_path(args: &Args) -> Option<PathBuf> {
    let bundled = || args.model.is_none().then(bundled::eval_text);
    args.eval_text.clone().or_else(bundled)
}

fn eval_windows(path: &Path, seq_len: usize, loaded: &LoadedLlama) -> Result<TokenWindows, Error> {
    let windows = loaded.read_windows(path, seq_len)?;
    if windows.is_empty() {
        let message = format!("is shorter than a window of {seq_len} tokens");
        return Err(Error::input(path, message));
    }
    windows.check_vocabulary(loaded.config.vocab_size, "tokenizer.json")?;
    Ok(windows)
}

/// Prints a note if there are fewer windows than requested.
fn say_what_there_was(args: &Args, settings: &QuantizeSettings, data: &Calibration) {
    let (asked, used) = (settings.sizes(), data.used());
    if used != asked {
        let file = args.calibration_file().unwrap_or(Path::new("self"));
        let (file, available, seq_len) = (file.display(), data.available, settings.seq_len);
        eprintln!("{file}: has {available} windows of {seq_len} tokens; used: {used}");
        eprintln!("{file}: requested: {asked}");
    }
}

/// How many windows a model writes for a run.
fn written(sizes: CalibrationSizes) -> usize {
    let wanted = match sizes.train.max(sizes.e2e) {
        0 => ONLY_MEASURED,
        trained => trained + sizes.valid,
    };
    (wanted * 10).div_ceil(9).max(10)
}

/// What a run has of the windows that a model writes, and how many are left to measure perplexity on. `None` where there are too many
/// to deal them out for a plan.
pub(super) fn sizes_of_written(sizes: CalibrationSizes) -> Option<(CalibrationSizes, usize)> {
    const MOST: usize = 1 << 20;
    let count = written(sizes);
    let windows = (count <= MOST).then(|| TokenWindows::new(vec![0; count], 1))?;
    let data = Calibration::split(&windows, sizes, 0).ok()?;
    Some((data.used(), data.eval.len()))
}

/// Windows that the model writes itself: as many as the phases need, and a tenth for evaluation. A run keeps those that are
/// finished.
fn self_calibration(
    args: &Args,
    settings: &QuantizeSettings,
    loaded: &LoadedLlama,
    device: &Device,
    run: Option<&RunDir>,
) -> Result<TokenWindows, Error> {
    let count = written(settings.sizes());
    let config = &loaded.config;
    let bos = config.bos_token_id.or(config.eos_token()).unwrap_or(0);
    let shape = [count, settings.seq_len];
    let begun = match run.map(|run| run.kept_file(WRITTEN)).transpose()?.flatten() {
        Some(path) => read_tokens(&path, TENSOR, config.vocab_size)?,
        None => TokenWindows::new(Vec::new(), settings.seq_len),
    };
    let bar = bar(0, "sample calibration text");
    let mut failed = None;
    let windows = sample_more_windows(
        &loaded.model,
        bos,
        shape,
        args.seed(),
        device,
        begun,
        &mut moving(&bar),
        &mut |windows| {
            let Some(run) = run else { return Ok(()) };
            let kept = run.keep_file(WRITTEN, |path| save_tokens(path, &[(TENSOR, windows)]));
            kept.map_err(|error| {
                failed = Some(error);
                LmError::Interrupted
            })
        },
    );
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(windows?),
    }
}
