mod args;
mod bits;
mod calibration;
mod describe;
mod planned;
mod preset;
mod run_flags;
mod settings;
mod size;

pub(super) use args::Args;
pub(super) use planned::{Planned, is_large};

use super::model::resolve;
use super::progress::{bar, check_interrupted};
use super::report::{check_report, table_head, table_row, write_report};
use super::run::{self, Run};
use super::training_progress::TrainingProgress;
use crate::error::Error;
use crate::load::{LoadedLlama, Tables};
use crate::model::Llama;
use crate::plan::Machine;
use crate::quantize::{Hooks, MeasuredStage, QuantizeSettings, quantize};
use crate::report::{Curves, HtmlReport};
use burn::module::Module;
use burn::tensor::Device;
use burn_eqat::files::{PackedSchemes, StagedDir, check_room};
use burn_eqat::lm::LmError;
use burn_eqat::train::{layer_sizes_by_block, schemes_by_block};
use burn_eqat::{Bits, ComputeType, GroupSize, Method, Quantize, Scheme, Schemes, StageName};
use calibration::kept_calibration;
use describe::facts;
pub(super) use describe::sizes;
use indicatif::ProgressBar;
use preset::{ChosenPreset, Preset};
use serde::Serialize;
use settings::{check_method, check_numbers, check_packed, check_together, settings};
use std::cell::RefCell;
use std::path::Path;

#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    /// Of the model that came out.
    scheme: Option<PackedSchemes>,
    preset: Preset,
    /// The stage whose model it is.
    kept: StageName,
    stages: &'a [MeasuredStage],
    /// The settings used, which may have fewer windows than requested.
    settings: &'a QuantizeSettings,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    let (mut args, resumed) = run::resume(args)?;
    // Nothing was there as the run began.
    args.force |= resumed.as_ref().is_some_and(Run::was_saving);
    check_numbers(&args)?;
    check_method(&args)?;
    if let Some(output) = &args.output {
        StagedDir::check(output, args.force)?;
        check_room(output, 0)?;
    }
    if resumed.is_none() {
        run::check(&args)?;
    }
    TrainingProgress::check(args.tui)?;
    check_report(args.report.as_deref())?;
    check_report(args.html.as_deref())?;
    if args.html.is_some() && args.html == args.report {
        let message = "--html and --report name the same file, expected two";
        return Err(Error::Setting(message.to_string()));
    }
    let device = main_device(&args)?;
    // A run goes on in the type that it began in, whatever the default is there.
    let compute = args.compute.on(&device)?;
    args.compute.set(compute);
    if compute == ComputeType::F16 && args.method() > Method::Rtn {
        eprintln!(
            "note: small gradients vanish in f16: bf16 trains better where the device has it"
        );
    }
    device.seed(args.seed());
    let dir = resolve(args.model.clone())?;
    let machine = Machine::look();
    let planned = Planned::new(&args, &dir, &device, resumed.as_ref())?;
    // How many windows a text has is known when it is read.
    if !args.ignore_plan && planned.counted {
        planned.check(&args, machine)?;
    }
    // A model that writes its calibration text must be in memory as a whole, and so must a packed one in E2E-QP. Otherwise one
    // block at a time is enough.
    let (packed, writes) = (planned.inputs.packed, planned.inputs.writes_calibration);
    let loaded = if packed && (writes || !args.offload) {
        LoadedLlama::open_with(&dir, &device, Tables::AsStored)?.with_compute_type(compute)
    } else if writes {
        args.compute.open(&dir, &device)?
    } else {
        LoadedLlama::open_by_block_with(&dir, &device, Tables::AsStored)?
    };
    let packed = loaded.schemes.clone();
    let scheme = match &packed {
        Some(packed) => {
            check_packed(&args, packed).map_err(|message| Error::input(&dir, message))?;
            if let Some(output) = &args.output {
                check_room(output, loaded.checkpoint.bytes() as u64)?;
            }
            packed.scheme
        }
        None => {
            let scheme = args.scheme.unwrap_or_else(default_scheme);
            let skeleton = check_scheme(&loaded, &schemes(&args, scheme), &device)?;
            if let Some(output) = &args.output {
                // The model after Block-AP still exists while the last one is written.
                loaded.check_room(&skeleton, output, 2)?;
            }
            scheme
        }
    };
    // A model without its data.
    let params = loaded.config.init(&device).num_params();
    let chosen = ChosenPreset::new(&args, params, loaded.config.positions());
    let settings = settings(&args, &chosen, scheme, packed.is_some(), compute);
    settings.share(args.device.count())?;
    check_together(&args, &settings)?;
    let resumes = resumed.is_some();
    let run = match resumed {
        Some(run) => Some(run),
        None => run::begin(&args)?,
    };
    let job = Job {
        args: &args,
        dir: &dir,
        chosen: &chosen,
        planned,
        machine,
    };
    let result = job.work(loaded, settings, run.as_ref());
    match (result, run) {
        (Ok(()), Some(run)) => run.end(),
        // Nothing was done, and other flags will be.
        (Err(error @ Error::Lacking(_)), Some(run)) if !resumes => {
            run.dir.remove()?;
            Err(error)
        }
        (Err(error), Some(run)) => {
            run.say_how_to_go_on();
            Err(error)
        }
        (result, None) => result,
    }
}

/// The job itself, once everything that it was asked for makes sense.
struct Job<'a> {
    args: &'a Args,
    dir: &'a Path,
    chosen: &'a ChosenPreset,
    planned: Planned,
    /// What was free before the model was there.
    machine: Machine<'a>,
}

impl Job<'_> {
    fn work(
        self,
        mut loaded: LoadedLlama,
        mut settings: QuantizeSettings,
        run: Option<&Run>,
    ) -> Result<(), Error> {
        let Self {
            args,
            dir,
            chosen,
            planned,
            machine,
        } = self;
        let (device, devices) = (main_device(args)?, args.device.devices()?);
        let run_dir = run.map(|run| run.dir.clone());
        if settings.cache.dir.is_none() {
            settings.cache.dir = run.map(Run::activations);
        }
        let data = kept_calibration(args, &settings, &loaded, &device, run_dir.as_ref())?;
        let writes = planned.inputs.writes_calibration;
        if !args.ignore_plan && !planned.counted {
            planned.with_data(&data).check(args, machine)?;
        }
        if writes && (loaded.schemes.is_none() || args.offload) {
            // Its text is written; from here on a block at a time will do.
            loaded = LoadedLlama::open_by_block_with(dir, &device, Tables::AsStored)?;
        }

        let shown = match &loaded.schemes {
            Some(packed) => packed.to_string(),
            None => schemes(args, settings.scheme).to_string(),
        };
        println!("{}  {shown}", dir.display());
        (settings, _) = planned::with_windows(settings, &data);
        if let Some(budget) = args.bits_budget {
            let kept = run_dir.as_ref();
            settings.overrides = bits::overrides(budget, &settings, &loaded, &data, &device, kept)?;
            println!("bits by budget: {}", bits::summary(&settings.overrides));
        }
        println!("{chosen}: {}", sizes(&settings));
        println!("{}", table_head());
        let (mut evaluation, training) = (None, RefCell::new(TrainingProgress::new(args.tui)));
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
            finished: &mut |stage, _model| {
                training.borrow_mut().clear();
                println!("{}", table_row(stage));
                Ok(())
            },
        };
        let quantized = quantize(&loaded, &data, &settings, &devices, run_dir, &mut hooks)?;
        if let Some(last) = quantized.stages.last().filter(|stage| stage.is_worse()) {
            println!("{}", last.verdict(quantized.kept));
        }
        if let Some(output) = &args.output {
            run.map_or(Ok(()), Run::saves)?;
            loaded.save_packed_or_rescue(&quantized.model, output, args.force)?;
            println!("saved to {}", output.display());
        }
        settings.rates = quantized.rates;
        if let Some(path) = &args.report {
            let report = Report {
                model: dir,
                scheme: schemes_by_block(&quantized.model)?,
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
                facts: facts(dir, &loaded.config, chosen, &settings, &data),
                stages: &quantized.stages,
                kept: quantized.kept,
                curves: &curves,
                layers: &layer_sizes_by_block(&quantized.model)?,
            };
            report.write(path)?;
        }
        Ok(())
    }
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

/// Where everything is that is not trained on several devices.
pub(super) fn main_device(args: &Args) -> Result<Device, Error> {
    let mut devices = args.device.devices()?;
    Ok(devices.swap_remove(0))
}

fn default_scheme() -> Scheme {
    Scheme::new(Bits::Two, GroupSize::rows(64))
}

fn schemes(args: &Args, scheme: Scheme) -> Schemes {
    Schemes::new(scheme).with_overrides(args.overrides.iter().cloned())
}

/// Fails early for schemes that do not fit. Returns the packed model, without data.
fn check_scheme(loaded: &LoadedLlama, schemes: &Schemes, device: &Device) -> Result<Llama, Error> {
    let model = loaded.config.init(device);
    Ok(model.attach_packed(&Llama::quantized_weights(), schemes)?)
}
