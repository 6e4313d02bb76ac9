//! The command line.

mod device;
mod pretrain;
mod progress;

use crate::error::Error;
use clap::{Parser, Subcommand};

/// Takes a Llama to 2, 3 or 4 bits per weight by training it, measures it, and runs it.
#[derive(Parser, Debug)]
#[command(name = "llama", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Pretrain(pretrain::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What went wrong, ready to be shown.
    pub fn run(self) -> Result<(), Error> {
        progress::watch_interrupts();
        match self.command {
            Command::Pretrain(args) => pretrain::run(args),
        }
    }
}
