use crate::error::Error;
use crate::load::LoadedMultimodal;
use burn::tensor::Device;
use std::path::PathBuf;

/// Write the decoder of a packed model alone, as a GPTQ directory (version 2) for other programs
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Directory of a packed model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace an existing directory
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    let loaded = LoadedMultimodal::open(&args.model, &Device::default())?;
    loaded.export_decoder_gptq(&args.output, args.force)?;
    println!("saved to {}", args.output.display());
    Ok(())
}
