//! What a run will take.

use super::calibration::{eval_path, kept, sizes_of_written};
use super::preset::ChosenPreset;
use super::settings::{check_method, check_numbers, check_packed, check_together, settings};
use super::{Args, default_scheme, main_device, schemes};
use crate::cli::model::resolve;
use crate::cli::run::{Run, begun_on, resume};
use crate::error::Error;
use crate::load::{Tables, describe, describe_config, float_type};
use crate::model::Llama;
use crate::plan::{Disk, Machine, PlanInputs, check};
use crate::quantize::QuantizeSettings;
use burn::module::Module;
use burn::tensor::Device;
use burn_eqat::ComputeType;
use burn_eqat::lm::{Calibration, TokenWindows};
use burn_eqat::train::LearningRates;
use burn_eqat::{Quantize, Schemes};
use clap::Args as _;
use std::path::{Path, PathBuf};

/// Windows of an evaluation, where a part of the calibration text is held out for it.
const HELD_OUT: usize = 128;

/// A run whose settings are known, and that does not work yet.
pub(in crate::cli) struct Planned {
    pub dir: PathBuf,
    pub inputs: PlanInputs,
    /// What the settings were chosen by.
    pub chosen: String,
    /// Whether it has as many windows as the settings say. Those of a text file are known when it is read.
    pub counted: bool,
}

impl Planned {
    /// The run that `llama quantize` would begin, or resume, with these flags.
    pub(in crate::cli) fn of(args: Args) -> Result<(Args, Self), Error> {
        let (args, run) = resume(args)?;
        check_numbers(&args)?;
        check_method(&args)?;
        let dir = resolve(args.model.clone())?;
        let planned = Self::new(&args, &dir, &main_device(&args)?, run.as_ref())?;
        check_together(&args, &planned.inputs.settings)?;
        Ok((args, planned))
    }

    /// The run with flags that are right, on the model of a directory: its weights need not be there. A run that goes on has its
    /// windows, if they are kept by then.
    pub(super) fn new(
        args: &Args,
        dir: &Path,
        device: &Device,
        run: Option<&Run>,
    ) -> Result<Self, Error> {
        let (contents, config) = describe_config(dir)?;
        let model = config.init(device);
        let params = model.num_params();
        let (file_bytes, packed) = if has_weights(dir) {
            let (checkpoint, _) = describe(dir, Tables::AsStored, None)?;
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
        let kept = match run {
            Some(run) => kept(&run.dir, config.vocab_size)?,
            None => None,
        };
        let writes_calibration = args.writes_calibration() && kept.is_none();
        let data = match (kept, &args.calibration_tokens) {
            (None, Some(path)) => Some(Calibration::from_tokens(
                path,
                settings.sizes(),
                config.vocab_size,
            )?),
            (kept, _) => kept,
        };
        let text = eval_path(args).map(|path| about(&path, settings.seq_len));
        let mut eval = text.unwrap_or(HELD_OUT);
        let counted = data.is_some() || writes_calibration || !args.needs_calibration();
        if let Some(data) = data {
            (settings, eval) = with_windows(settings, &data);
        } else if let Some((sizes, held_out)) = sizes_of_written(settings.sizes())
            && writes_calibration
        {
            settings = settings.with_sizes(sizes);
            eval = text.unwrap_or(held_out);
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
            bits_budget: args.bits_budget,
            writes_calibration,
            settings,
            eval,
            fused: args.device.are_fused(),
            devices: args.device.count(),
            bf16: ComputeType::Bf16.check(device).is_ok(),
            separate_device: args.device.have_memory(),
            run_dir: args.run.is_some() || args.output.is_some() || args.resume.is_some(),
            output: args.output.is_some(),
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            inputs,
            chosen: chosen.to_string(),
            counted,
        })
    }

    /// The same run, once its windows are there.
    pub(super) fn with_data(mut self, data: &Calibration) -> Self {
        (self.inputs.settings, self.inputs.eval) = with_windows(self.inputs.settings, data);
        self.counted = true;
        self
    }

    /// Fails where the run does not fit on the machine, with what was free there before anything of the run was in memory.
    pub(in crate::cli) fn check(&self, args: &Args, machine: Machine<'_>) -> Result<(), Error> {
        let run = args.run.as_ref().or(args.output.as_ref());
        let directory = args.cache_dir.as_ref().or(run).cloned();
        let directory = directory.unwrap_or_else(std::env::temp_dir);
        let mut machine = Machine {
            // Of a run that goes on, some is on disk already.
            disk: args.resume.is_none().then_some(Disk {
                directory: &directory,
                run_dir: args.cache_dir.is_none(),
            }),
            ..machine
        };
        if let Some(memory) = args.memory {
            let there = match self.inputs.separate_device {
                true => &mut machine.device,
                false => &mut machine.host,
            };
            *there = Some(memory.0);
        }
        let flags = Args::augment_args(clap::Command::new("quantize"));
        // A run that goes on does so with the settings that it began with.
        let offered = |flag: &str| {
            let mut flags = flags.get_arguments();
            args.resume.is_none() && flags.any(|argument| argument.get_long() == Some(flag))
        };
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

/// The settings for the windows that there are, and how many of them perplexity is measured on.
pub(super) fn with_windows(
    settings: QuantizeSettings,
    data: &Calibration,
) -> (QuantizeSettings, usize) {
    let mut settings = settings.with_sizes(data.used());
    settings.seq_len = windows(data).seq_len();
    (settings, data.eval.len())
}

/// About how many windows a text has.
fn about(path: &Path, seq_len: usize) -> usize {
    /// Bytes of text for a token, as tokenizers of Llamas need for English.
    const BYTES: usize = 4;
    let bytes = std::fs::metadata(path).map_or(0, |data| data.len() as usize);
    (bytes / BYTES / seq_len.max(1)).max(1)
}

/// The windows of a run that are as long as those of its phases.
fn windows(data: &Calibration) -> &TokenWindows {
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
