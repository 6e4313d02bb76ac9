//! What a run will take.

use super::preset::ChosenPreset;
use super::run::{begun_on, resume};
use super::settings::{check_method, check_numbers, check_packed, settings};
use super::{Args, default_scheme, main_device, schemes};
use crate::cli::model::resolve;
use crate::error::Error;
use crate::load::{Tables, describe, describe_config, float_type};
use crate::model::Llama;
use crate::plan::{Disk, Machine, PlanInputs, check};
use burn::module::Module;
use burn::tensor::Device;
use burn_eqat::ComputeType;
use burn_eqat::lm::{Calibration, TokenWindows};
use burn_eqat::train::LearningRates;
use burn_eqat::{Quantize, Schemes};
use clap::Args as _;
use std::path::{Path, PathBuf};

/// A run whose settings are known, and that has not begun.
pub(in crate::cli) struct Planned {
    pub dir: PathBuf,
    pub inputs: PlanInputs,
    /// What the settings were chosen by.
    pub chosen: String,
}

impl Planned {
    /// The run that `llama quantize` would begin, or resume, with these flags.
    pub(in crate::cli) fn of(args: Args) -> Result<(Args, Self), Error> {
        let (args, _) = resume(args)?;
        check_numbers(&args)?;
        check_method(&args)?;
        let dir = resolve(args.model.clone())?;
        let planned = Self::new(&args, &dir, &main_device(&args)?)?;
        Ok((args, planned))
    }

    /// The run with flags that are right, on the model of a directory: its weights need not be there.
    pub(super) fn new(args: &Args, dir: &Path, device: &Device) -> Result<Self, Error> {
        let (contents, config) = describe_config(dir)?;
        let model = config.init(device);
        let params = model.num_params();
        let (file_bytes, packed) = if has_weights(dir) {
            let (checkpoint, _) = describe(dir, Tables::AsStored)?;
            (Some(checkpoint.bytes() as u64), checkpoint.schemes(&model)?)
        } else {
            (None, None)
        };
        let (scheme, schemes) = match &packed {
            Some(packed) => {
                check_packed(args, packed).map_err(|message| Error::input(dir, message))?;
                let paths = packed.overrides.iter();
                let schemes = paths.fold(Schemes::new(packed.scheme), |schemes, (path, scheme)| {
                    schemes.with_path(path, *scheme)
                });
                (packed.scheme, schemes)
            }
            None => {
                let scheme = args.scheme.unwrap_or_else(default_scheme);
                let schemes = schemes(args, scheme);
                // Fails for a scheme that does not fit, or an override that matches nothing.
                model.attach_packed(&Llama::quantized_weights(), &schemes)?;
                (scheme, schemes)
            }
        };
        let compute = args.compute.on(device)?;
        let chosen = ChosenPreset::new(args, params, config.positions());
        let mut settings = settings(args, &chosen, scheme, packed.is_some(), compute);
        if let Some(path) = &args.calibration_tokens {
            let data = Calibration::from_tokens(path, settings.sizes(), config.vocab_size)?;
            settings = settings.with_sizes(data.used());
            settings.seq_len = windows(&data).seq_len();
        }
        let (seq_len, limit) = (settings.seq_len, config.positions());
        if seq_len > limit {
            let message = format!("windows of {seq_len} tokens, expected at most {limit}");
            return Err(Error::Setting(message));
        }
        let inputs = PlanInputs {
            file: float_type(&contents),
            config,
            file_bytes,
            packed: packed.is_some(),
            schemes,
            writes_calibration: args.writes_calibration(),
            settings,
            fused: compute == ComputeType::F32 && args.device.fuse_f32(),
            separate_device: args.device.have_memory(),
            run_dir: args.run.is_some() || args.output.is_some() || args.resume.is_some(),
            output: args.output.is_some(),
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            inputs,
            chosen: chosen.to_string(),
        })
    }

    /// Fails where the run does not fit on the machine.
    pub(in crate::cli) fn check(&self, args: &Args) -> Result<(), Error> {
        let mut machine = Machine::look();
        if let Some(memory) = args.memory {
            let there = match self.inputs.separate_device {
                true => &mut machine.device,
                false => &mut machine.host,
            };
            *there = Some(memory.0);
        }
        let flags = Args::augment_args(clap::Command::new("quantize"));
        let offered = |flag: &str| {
            let mut flags = flags.get_arguments();
            flags.any(|argument| argument.get_long() == Some(flag))
        };
        let run = args.run.as_ref().or(args.output.as_ref());
        let directory = args.cache_dir.as_ref().or(run).cloned();
        let directory = directory.unwrap_or_else(std::env::temp_dir);
        // Of a run that goes on, some is on disk already.
        machine.disk = args.resume.is_none().then_some(Disk {
            directory: &directory,
            run_dir: args.cache_dir.is_none(),
        });
        match check(&self.inputs, machine, &offered)? {
            None => Ok(()),
            Some(lacking) => Err(lacking.into()),
        }
    }
}

/// Whether a model has so many parameters that memory matters more than the time that it costs to spare it. False where that is not
/// known yet.
pub(in crate::cli) fn is_large(args: &Args) -> bool {
    let resumed = args.resume.as_deref().map(begun_on);
    let model = resumed.unwrap_or(args.model.clone());
    let config = model.and_then(|dir| describe_config(&dir).ok());
    config.is_some_and(|(_, config)| crate::plan::params(&config) >= LearningRates::LARGE as u64)
}

/// The windows of a run that are as long as those of its phases.
pub(super) fn windows(data: &Calibration) -> &TokenWindows {
    let windows = [&data.train, &data.e2e];
    let mut windows = windows.into_iter().filter(|windows| !windows.is_empty());
    windows.next().unwrap_or(&data.eval)
}

/// Whether a directory has weights, and not only a configuration.
fn has_weights(dir: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(dir) else {
        // Reading them says what is wrong.
        return true;
    };
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut names = names.map(|name| name.to_ascii_lowercase());
    names.any(|name| {
        [".safetensors", ".bin", ".index.json"]
            .iter()
            .any(|end| name.ends_with(end))
    })
}
