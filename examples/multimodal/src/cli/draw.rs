use crate::audio::write_wav;
use crate::data::{Made, RATE, World};
use crate::error::Error;
use burn_eqat::files::StagedFile;
use image::ImageFormat;
use std::path::PathBuf;

/// Write one of the pictures (PNG) or sounds (WAV) that this program makes, and print what can be asked about it
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What it is about
    #[arg(value_name = "WORLD")]
    world: World,
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Seed: another one makes another picture or sound
    #[arg(long, default_value_t = 5, value_name = "N")]
    seed: u32,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    let sample = args.world.sample(u64::from(args.seed), 0);
    match sample.made {
        Made::Picture(picture) => {
            let mut staged = StagedFile::begin(&args.output)?;
            let written = picture.write_to(staged.file(), ImageFormat::Png);
            written.map_err(|error| Error::input(&args.output, error))?;
            staged.commit()?;
        }
        Made::Sound(samples) => write_wav(&args.output, &samples, RATE as u32)?,
    }
    for turn in sample.turns {
        println!("{} {}", turn.question, turn.answer);
    }
    Ok(())
}
