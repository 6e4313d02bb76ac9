use super::adapter::AdapterArg;
use super::device::DeviceArg;
use super::model::resolve;
use crate::error::Error;
use crate::export::Compatibility;
use crate::load::LoadedLlama;
use burn::tensor::DType;
use clap::ValueEnum;
use std::path::PathBuf;

/// Write a model in the format of another program
///
/// GPTQ (version 2) for GPTQModel, transformers and vLLM; GGUF for llama.cpp; a dense Hugging Face directory for
/// everything else.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Hugging Face directory, packed (or dense, for gguf and dense) [default: the bundled model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// Output: a directory, or a file for gguf
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// Float type of a dense directory
    #[arg(long, value_enum, default_value_t = Float::Bf16)]
    dtype: Float,
    /// Write a GGUF file for older readers too, which do not know its type Q2_0
    #[arg(long)]
    older_readers: bool,
    #[command(flatten)]
    adapter: AdapterArg,
    #[command(flatten)]
    device: DeviceArg,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Gptq,
    Gguf,
    Dense,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Float {
    Bf16,
    F16,
    F32,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    let device = args.device.device()?;
    let dir = resolve(args.model)?;
    let loaded = args.adapter.apply(LoadedLlama::open(&dir, &device)?)?;
    match args.format {
        Format::Gptq => loaded.export_gptq(&args.output, args.force)?,
        Format::Dense => {
            let dtype = match args.dtype {
                Float::Bf16 => DType::BF16,
                Float::F16 => DType::F16,
                Float::F32 => DType::F32,
            };
            loaded.export_dense(&args.output, dtype, args.force)?;
        }
        Format::Gguf => {
            let compatibility = if args.older_readers {
                Compatibility::Older
            } else {
                Compatibility::Newest
            };
            for note in loaded.export_gguf(&args.output, compatibility, args.force)? {
                println!("note: {note}");
            }
        }
    }
    println!("saved to {}", args.output.display());
    Ok(())
}
