mod args;
mod calibration;
mod describe;
mod preset;
mod settings;

pub(super) use args::Args;

use super::model::resolve;
use super::progress::{bar, check_interrupted};
use super::report::{check_report, table_head, table_row, write_report};
use super::training_progress::TrainingProgress;
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::Llama;
use crate::quantize::{Hooks, MeasuredStage, QuantizeSettings, quantize};
use crate::report::{Curves, HtmlReport};
use burn::module::Module;
use burn::tensor::Device;
use burn_eqat::files::{StagedDir, check_room};
use burn_eqat::lm::LmError;
use burn_eqat::{Bits, GroupSize, Method, Quantize, Scheme, Schemes, StageName};
use calibration::calibration;
use describe::{facts, sizes};
use indicatif::ProgressBar;
use preset::{ChosenPreset, Preset};
use serde::Serialize;
use settings::{check_method, check_numbers, check_packed, settings};
use std::cell::RefCell;
use std::path::Path;

#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    scheme: Scheme,
    preset: Preset,
    /// The stage whose model it is.
    kept: StageName,
    stages: &'a [MeasuredStage],
    /// What was used, which may be less than what was asked for.
    settings: &'a QuantizeSettings,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    check_numbers(&args)?;
    check_method(&args)?;
    if let Some(output) = &args.output {
        StagedDir::check(output, args.force)?;
        check_room(output, 0)?;
    }
    check_report(args.report.as_deref())?;
    check_report(args.html.as_deref())?;
    if args.html.is_some() && args.html == args.report {
        let message = "--html and --report name the same file, expected two";
        return Err(Error::Setting(message.to_string()));
    }
    let device = args.device.device();
    device.seed(args.seed);
    let dir = resolve(args.model.clone())?;
    // A model that writes its calibration text has to be there as a whole; else a block at a time will do.
    let writes = args.writes_calibration();
    let mut loaded = if writes {
        LoadedLlama::open(&dir, &device)?
    } else {
        LoadedLlama::open_by_block(&dir, &device)?
    };
    let packed = loaded.scheme;
    let scheme = match packed {
        Some(packed) => {
            check_packed(&args, packed).map_err(|message| Error::input(&dir, message))?;
            loaded = LoadedLlama::open(&dir, &device)?;
            if let Some(output) = &args.output {
                loaded.check_room(&loaded.model, output, 1)?;
            }
            packed
        }
        None => {
            let scheme = args.scheme.unwrap_or_else(default_scheme);
            let skeleton = check_scheme(&loaded, &schemes(&args, scheme), &device)?;
            if let Some(output) = &args.output {
                // The model after Block-AP is still there when the last one is written.
                loaded.check_room(&skeleton, output, 2)?;
            }
            scheme
        }
    };
    // A model without its data.
    let params = loaded.config.init(&device).num_params();
    let chosen = ChosenPreset::new(&args, params, loaded.config.positions());
    let mut settings = settings(&args, &chosen, scheme, packed.is_some());
    let data = calibration(&args, &settings, &loaded, &device)?;
    if writes && packed.is_none() {
        // Its text is written; from here on a block at a time will do.
        loaded = LoadedLlama::open_by_block(&dir, &device)?;
    }

    println!("{}  {}", dir.display(), schemes(&args, scheme));
    settings = settings.with_sizes(data.used());
    if let Some(seq_len) = [&data.train, &data.e2e, &data.eval]
        .into_iter()
        .find(|windows| !windows.is_empty())
        .map(|windows| windows.seq_len())
    {
        settings.seq_len = seq_len;
    }
    println!("{chosen}: {}", sizes(&settings));
    println!("{}", table_head());
    let (mut evaluation, training, mut saved) =
        (None, RefCell::new(TrainingProgress::new()), false);
    let mut curves = Curves::default();
    let mut hooks = Hooks {
        training: &mut |event| {
            if args.html.is_some() {
                curves.event(event);
            }
            training.borrow_mut().event(event)
        },
        evaluating: &mut |stage, done, total| {
            training.borrow_mut().clear();
            show_evaluation(&mut evaluation, stage, done, total)
        },
        finished: &mut |stage, model| {
            println!("{}", table_row(stage));
            // Block-AP takes long; what it made is safe while E2E-QP goes on.
            let more = args.method > Method::BlockAp;
            if let Some(output) = args
                .output
                .as_ref()
                .filter(|_| more && stage.name == StageName::BlockAp)
            {
                saved = true;
                loaded.save_packed_or_rescue(model, output, args.force)?;
            }
            Ok(())
        },
    };
    let quantized = quantize(&loaded, &data, &settings, &device, &mut hooks)?;
    if let Some(last) = quantized.stages.last().filter(|stage| stage.is_worse()) {
        println!("{}", last.verdict(quantized.kept));
    }
    if let Some(output) = &args.output {
        // What Block-AP made is there already, and may be what is kept.
        if !(saved && quantized.kept == StageName::BlockAp) {
            let force = args.force || saved;
            loaded.save_packed_or_rescue(&quantized.model, output, force)?;
        }
        println!("saved to {}", output.display());
    }
    settings.rates = quantized.rates;
    if let Some(path) = &args.report {
        let report = Report {
            model: &dir,
            scheme,
            preset: chosen.preset,
            kept: quantized.kept,
            stages: &quantized.stages,
            settings: &settings,
        };
        write_report(path, &report)?;
    }
    if let Some(path) = &args.html {
        let name = dir.file_name().unwrap_or(dir.as_os_str());
        let report = HtmlReport {
            model: &name.to_string_lossy(),
            facts: facts(&dir, &loaded.config, &chosen, &settings, &data),
            stages: &quantized.stages,
            kept: quantized.kept,
            curves: &curves,
            layers: &quantized.model.layer_sizes(),
        };
        report.write(path)?;
    }
    Ok(())
}

fn show_evaluation(
    shown: &mut Option<ProgressBar>,
    stage: StageName,
    done: usize,
    total: usize,
) -> Result<(), LmError> {
    let bar = shown.get_or_insert_with(|| bar(total, format!("evaluate {stage}")));
    bar.set_position(done as u64);
    if done == total {
        bar.finish_and_clear();
        *shown = None;
    }
    check_interrupted()
}

fn default_scheme() -> Scheme {
    Scheme::new(Bits::Two, GroupSize::rows(64))
}

fn schemes(args: &Args, scheme: Scheme) -> Schemes {
    Schemes::new(scheme).with_overrides(args.overrides.iter().cloned())
}

/// Refuses schemes that do not fit before any time is spent; the packed model, without data.
fn check_scheme(loaded: &LoadedLlama, schemes: &Schemes, device: &Device) -> Result<Llama, Error> {
    let model = loaded.config.init(device);
    Ok(model.attach_packed(&Llama::quantized_weights(), schemes)?)
}
