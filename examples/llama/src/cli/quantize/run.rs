//! The run directory of a job.

use super::Args;
use crate::error::Error;
use burn_eqat::{RunDir, RunDirError};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What the run calls the flags that it began with.
const FLAGS: &str = "flags";

/// What the run calls that its output is being written.
const SAVING: &str = "saving";

/// A run directory, and whether it stays when the job is done.
pub(super) struct Run {
    pub dir: RunDir,
    stays: bool,
}

/// The flags to work with: those that a run began with where one is resumed. Such a run is opened.
pub(super) fn resume(mut args: Args) -> Result<(Args, Option<Run>), Error> {
    absolute(&mut args);
    let Some(path) = args.resume.clone() else {
        return Ok((args, None));
    };
    let dir = RunDir::open(&path)?;
    let none = || {
        Error::input(
            &path,
            "is a run of another program, expected one of llama quantize",
        )
    };
    let begun = dir.setting(FLAGS).ok_or_else(none)?;
    let now = flags(&args)?;
    for (flag, now) in now.iter().filter(|(_, value)| is_given(value)) {
        let begun = begun.get(flag).unwrap_or(&Value::Null);
        if begun != now {
            let message = format!("--{flag} is {now}, but the run began with {begun}");
            return Err(Error::input(&path, message));
        }
    }
    let resumed: Args = serde_json::from_value(begun)
        .map_err(|error| Error::input(&path, format!("flags of the run: {error}")))?;
    let args = Args {
        resume: args.resume,
        force: args.force,
        cache_dir: args.cache_dir,
        report: args.report,
        html: args.html,
        tui: args.tui,
        memory: args.memory,
        ignore_plan: args.ignore_plan,
        ..resumed
    };
    let stays = default_path(&args).as_deref() != Some(&path);
    Ok((args, Some(Run { dir, stays })))
}

/// The model that a run began on, if that can be read.
pub(super) fn begun_on(path: &Path) -> Option<PathBuf> {
    let begun = RunDir::open(path).ok()?.setting(FLAGS)?;
    let model = begun.get("model")?.as_str()?;
    Some(PathBuf::from(model))
}

/// Begins a run where there is a place for one.
pub(super) fn begin(args: &Args) -> Result<Option<Run>, Error> {
    let default = default_path(args);
    let Some(path) = args.run.clone().or(default) else {
        return Ok(None);
    };
    if args.force
        && let Ok(old) = RunDir::open(&path)
    {
        old.remove()?;
    }
    let dir = RunDir::create(&path)?;
    dir.agree(FLAGS, Value::Object(flags(args)?))?;
    let stays = args.run.is_some();
    Ok(Some(Run { dir, stays }))
}

/// Fails where a run could not begin.
pub(super) fn check(args: &Args) -> Result<(), Error> {
    let path = args.run.clone().or_else(|| default_path(args));
    match path {
        Some(path) if !args.force && RunDir::is_run(&path) => {
            Err(RunDirError::Exists { path }.into())
        }
        _ => Ok(()),
    }
}

impl Run {
    /// Whether the output may be there already, from a process that was stopped as it saved.
    pub fn was_saving(&self) -> bool {
        self.dir.note(SAVING).is_some()
    }

    /// Where activations go that are not kept in memory: there is room for the result in the run directory, and a temporary
    /// directory may be in memory.
    pub fn activations(&self) -> PathBuf {
        self.dir.path().join("activations")
    }

    /// Says that the output is written from here on.
    pub fn saves(&self) -> Result<(), Error> {
        Ok(self.dir.set_note(SAVING, Value::Bool(true))?)
    }

    /// Says how to go on after a failure.
    pub fn say_how_to_go_on(&self) {
        let path = self.dir.path().display();
        eprintln!("what is finished is kept: go on with llama quantize --resume {path}");
    }

    /// Ends the run: the job is done.
    pub fn end(self) -> Result<(), Error> {
        // Empty by now, if it is there.
        let _ = std::fs::remove_dir(self.activations());
        if !self.stays {
            self.dir.remove()?;
        }
        Ok(())
    }
}

/// Beside the output.
fn default_path(args: &Args) -> Option<PathBuf> {
    let output = args.output.as_deref()?;
    let mut name = output.file_name()?.to_os_string();
    name.push(".run");
    Some(output.with_file_name(name))
}

/// Flags as a run keeps them.
fn flags(args: &Args) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(args) {
        Ok(Value::Object(flags)) => Ok(flags),
        Ok(other) => Err(Error::Setting(format!("flags are {other}"))),
        Err(error) => Err(Error::Setting(format!("flags: {error}"))),
    }
}

/// Whether a flag was given.
fn is_given(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(values) => !values.is_empty(),
        _ => true,
    }
}

/// Paths that mean the same wherever a run is resumed. A name that is no path, of a model on the hub say, stays.
fn absolute(args: &mut Args) {
    let there = [
        &mut args.model,
        &mut args.calibration,
        &mut args.calibration_tokens,
        &mut args.eval_text,
    ];
    for path in there.into_iter().flatten().filter(|path| path.exists()) {
        make_absolute(path);
    }
    let places = [&mut args.output, &mut args.run, &mut args.resume];
    for path in places.into_iter().flatten() {
        make_absolute(path);
    }
}

fn make_absolute(path: &mut PathBuf) {
    if let Ok(absolute) = std::path::absolute::<&Path>(path) {
        *path = absolute;
    }
}
