//! The run directory of a command's job.

use crate::error::Error;
use burn_eqat::{RunDir, RunDirError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What the run calls the command, and the flags that it began with.
const COMMAND: &str = "command";
const FLAGS: &str = "flags";

/// What the run calls that its output is being written.
const SAVING: &str = "saving";

/// The flags of a command whose job keeps a run directory. Those that are serialized are of the job, and have to stay as they are.
pub(super) trait RunFlags: Serialize + DeserializeOwned {
    /// The name of the command.
    const COMMAND: &'static str;

    /// The run to go on with.
    fn resume(&self) -> Option<&Path>;

    /// Where the run is to be, if that is given.
    fn run(&self) -> Option<&Path>;

    /// What is made; by default the run is beside it.
    fn made(&self) -> Option<&Path>;

    /// Whether an old run may be replaced.
    fn force(&self) -> bool;

    /// Paths of what is read, if they are there: a name that is no path, of a model on the hub say, is none. They have to mean the same
    /// wherever a run is resumed.
    fn inputs(&mut self) -> Vec<&mut PathBuf>;

    /// Paths of what is written.
    fn places(&mut self) -> Vec<&mut PathBuf>;

    /// The flags that a run began with, and of these here those that may differ from one resumption to the next.
    fn with_begun(self, begun: Self) -> Self;
}

/// A run directory, and whether it stays when the job is done.
pub(super) struct Run {
    pub dir: RunDir,
    command: &'static str,
    stays: bool,
}

/// The flags to work with: those that a run began with where one is resumed. Such a run is opened.
pub(super) fn resume<A: RunFlags>(mut args: A) -> Result<(A, Option<Run>), Error> {
    absolute(&mut args);
    let Some(path) = args.resume().map(Path::to_path_buf) else {
        return Ok((args, None));
    };
    let dir = RunDir::open(&path)?;
    let command = dir.setting(COMMAND);
    let ours = command.is_some_and(|command| command == A::COMMAND);
    let Some(begun) = dir.setting(FLAGS).filter(|_| ours) else {
        let command = A::COMMAND;
        let message = format!("is a run of another program, expected one of llama {command}");
        return Err(Error::input(&path, message));
    };
    let now = flags(&args)?;
    for (flag, now) in now.iter().filter(|(_, value)| is_given(value)) {
        let begun = begun.get(flag).unwrap_or(&Value::Null);
        if begun != now {
            let message = format!("--{flag} is {now}, but the run began with {begun}");
            return Err(Error::input(&path, message));
        }
    }
    let begun: A = serde_json::from_value(begun)
        .map_err(|error| Error::input(&path, format!("flags of the run: {error}")))?;
    let args = args.with_begun(begun);
    let run = Run {
        dir,
        command: A::COMMAND,
        stays: default_path(&args).as_deref() != Some(&path),
    };
    Ok((args, Some(run)))
}

/// The model that a run began on, if that can be read.
pub(super) fn begun_on(path: &Path) -> Option<PathBuf> {
    let begun = RunDir::open(path).ok()?.setting(FLAGS)?;
    let model = begun.get("model")?.as_str()?;
    Some(PathBuf::from(model))
}

/// Begins a run where there is a place for one.
pub(super) fn begin<A: RunFlags>(args: &A) -> Result<Option<Run>, Error> {
    let Some(path) = path(args) else {
        return Ok(None);
    };
    if args.force()
        && let Ok(old) = RunDir::open(&path)
    {
        old.remove()?;
    }
    let dir = RunDir::create(&path)?;
    dir.agree(COMMAND, A::COMMAND.into())?;
    dir.agree(FLAGS, Value::Object(flags(args)?))?;
    Ok(Some(Run {
        dir,
        command: A::COMMAND,
        stays: args.run().is_some(),
    }))
}

/// Fails where a run could not begin.
pub(super) fn check<A: RunFlags>(args: &A) -> Result<(), Error> {
    match path(args) {
        Some(path) if !args.force() && RunDir::is_run(&path) => {
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
        let (command, path) = (self.command, self.dir.path().display());
        eprintln!("what is finished is kept: go on with llama {command} --resume {path}");
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

/// Where the run of a job is.
fn path<A: RunFlags>(args: &A) -> Option<PathBuf> {
    let given = args.run().map(Path::to_path_buf);
    given.or_else(|| default_path(args))
}

/// Beside what is made.
fn default_path<A: RunFlags>(args: &A) -> Option<PathBuf> {
    let made = args.made()?;
    let mut name = made.file_name()?.to_os_string();
    name.push(".run");
    Some(made.with_file_name(name))
}

/// Flags as a run keeps them.
fn flags<A: RunFlags>(args: &A) -> Result<Map<String, Value>, Error> {
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

/// Makes paths absolute.
fn absolute<A: RunFlags>(args: &mut A) {
    let there = args.inputs().into_iter().filter(|path| path.exists());
    there.for_each(make_absolute);
    args.places().into_iter().for_each(make_absolute);
}

fn make_absolute(path: &mut PathBuf) {
    if let Ok(absolute) = std::path::absolute::<&Path>(path) {
        *path = absolute;
    }
}
