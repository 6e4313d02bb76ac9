use crate::data::World;
use crate::error::Error;
use crate::learn::{LearnConfig, Pupil, learn};
use crate::little::{Little, Measure};
use crate::table::table;
use burn::tensor::Device;
use burn_eqat::files::StagedDir;
use std::path::PathBuf;
use std::time::Instant;

/// Train a little model from scratch, like the bundled ones
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What it learns
    #[arg(value_name = "WORLD")]
    world: World,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace an existing directory
    #[arg(long)]
    force: bool,
    /// Steps, each on new samples
    #[arg(long, default_value_t = 3000, value_name = "N")]
    steps: usize,
    /// Samples of a step
    #[arg(long, default_value_t = 32, value_name = "N")]
    batch_size: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 1.5e-3, value_name = "X")]
    learning_rate: f64,
    /// Seed of the weights and the samples, less than 1000
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(..1000))]
    seed: u64,
}

/// Steps between two lines.
const LINE: usize = 100;

pub(super) fn run(args: Args) -> Result<(), Error> {
    if args.steps == 0 || args.batch_size == 0 {
        let message = format!(
            "--steps is {} and --batch-size {}, expected 1 or more each",
            args.steps, args.batch_size
        );
        return Err(Error::Setting(message));
    }
    StagedDir::check(&args.output, args.force)?;
    let device = Device::default();
    let pupil = Pupil::new(args.world)?;
    let config = LearnConfig::new()
        .with_steps(args.steps)
        .with_batch_size(args.batch_size)
        .with_learning_rate(args.learning_rate)
        .with_seed(args.seed);
    let (start, mut sum) = (Instant::now(), 0.0);
    let model = learn(&pupil, &config, &device, &mut |step, loss| {
        sum += loss;
        if step % LINE == 0 {
            let (mean, seconds) = (sum / LINE as f64, start.elapsed().as_secs_f64());
            println!(
                "step {step} of {}: mean loss {mean:.4}, {seconds:.0} s",
                args.steps
            );
            sum = 0.0;
        }
        Ok(())
    })?;
    pupil.save(&model, &args.output, args.force)?;
    let little = Little::open(args.world, &args.output, Measure::default(), &device)?;
    let seconds = start.elapsed().as_secs_f64();
    let row = little.row(&little.loaded.model, ("-", "full-precision"), seconds)?;
    println!("{}", table(args.world, &[row]));
    println!("saved to {}", args.output.display());
    Ok(())
}
