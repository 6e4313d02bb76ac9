//! The command line.

mod adapter;
mod backend;
mod bundled;
mod chat;
mod compute;
mod dashboard;
mod device;
mod eval;
mod export;
mod generate;
mod inference;
mod model;
mod numbers;
mod plan;
mod pretrain;
mod progress;
mod quantize;
mod report;
mod run;
mod training_bar;
mod training_progress;
mod tune;

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
    Quantize(Box<quantize::Args>),
    Plan(Box<plan::PlanArgs>),
    Tune(Box<tune::Args>),
    Eval(eval::Args),
    Generate(generate::Args),
    Chat(chat::Args),
    Export(export::Args),
    Pretrain(pretrain::Args),
}

impl Cli {
    /// Whether the command goes through a model only once, or the model is large, so that low memory matters more than time.
    pub fn spares_memory(&self) -> bool {
        match &self.command {
            Command::Quantize(args) => {
                args.goes_through_once() || args.offloads() || quantize::is_large(args)
            }
            _ => false,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    ///
    /// An error to be shown.
    pub fn run(self) -> Result<(), Error> {
        progress::watch_interrupts();
        match self.command {
            Command::Quantize(args) => quantize::run(*args),
            Command::Plan(args) => plan::run(*args),
            Command::Tune(args) => tune::run(*args),
            Command::Eval(args) => eval::run(args),
            Command::Generate(args) => generate::run(args),
            Command::Chat(args) => chat::run(args),
            Command::Export(args) => export::run(args),
            Command::Pretrain(args) => pretrain::run(args),
        }
    }
}
