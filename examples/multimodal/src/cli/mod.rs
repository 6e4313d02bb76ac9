//! The command line.

mod ask;
mod compare;
mod draw;
mod export;
mod quantize;
mod train;

use crate::error::Error;
use clap::{Parser, Subcommand};

/// Takes a decoder that sees or hears to 2, 3 or 4 bits per weight by training it, and asks it questions.
///
/// Without a command: measures the two little models of this package in full precision and at 4, 3 and 2 bits, and prints the
/// table.
#[derive(Parser, Debug)]
#[command(
    name = "multimodal",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: compare::Args,
}

#[derive(Subcommand, Debug)]
enum Command {
    Ask(ask::Args),
    Draw(draw::Args),
    Train(train::Args),
    Quantize(quantize::Args),
    Export(export::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// An error to be shown.
    pub fn run(self) -> Result<(), Error> {
        match self.command {
            None => compare::run(self.compare),
            Some(Command::Ask(args)) => ask::run(args),
            Some(Command::Draw(args)) => draw::run(args),
            Some(Command::Train(args)) => train::run(args),
            Some(Command::Quantize(args)) => quantize::run(args),
            Some(Command::Export(args)) => export::run(args),
        }
    }
}
