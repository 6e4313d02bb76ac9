use crate::error::Error;
use crate::instructions::Instructions;
use crate::load::LoadedMultimodal;
use crate::model::Multimodal;
use crate::quantize::{QuantizeSettings, loaders, quantize};
use burn::tensor::Device;
use burn_eqat::files::{StagedDir, check_room, expected_size};
use burn_eqat::train::ProgressLines;
use burn_eqat::{Scheme, SchemeOverride, Stage};
use std::path::PathBuf;

/// Take a LLaVA, or the same model with an audio tower, to few bits by training on conversations
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Directory of a model in full precision
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Conversations: a JSON list, as LLaVA's instruction data is
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Folder of the images or sounds [default: that of the conversations]
    #[arg(long, value_name = "DIR")]
    media: Option<PathBuf>,
    /// Bits and group size of the decoder's weights
    #[arg(long, default_value = "w2g64", value_name = "SCHEME")]
    scheme: Scheme,
    /// Bits and group size of the tower's weights [default: the tower stays in full precision]
    #[arg(long, value_name = "SCHEME")]
    tower_scheme: Option<Scheme>,
    /// Another scheme for the weights whose paths match; may be repeated
    #[arg(long = "override", value_name = "REGEX=SCHEME")]
    overrides: Vec<SchemeOverride>,
    /// Conversations for Block-AP
    #[arg(long, default_value_t = 512, value_name = "N")]
    train_size: usize,
    /// Conversations for E2E-QP
    #[arg(long, default_value_t = 2048, value_name = "N")]
    e2e_size: usize,
    /// Conversations to validate E2E-QP with
    #[arg(long, default_value_t = 64, value_name = "N")]
    val_size: usize,
    /// Conversations of a step of Block-AP
    #[arg(long, default_value_t = 2, value_name = "N")]
    batch_size: usize,
    /// Conversations of a step of E2E-QP
    #[arg(long, default_value_t = 8, value_name = "N")]
    e2e_batch_size: usize,
    /// Positions of a conversation at most; later turns are left out [default: what the decoder has]
    #[arg(long, value_name = "N")]
    max_positions: Option<usize>,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace an existing directory
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    StagedDir::check(&args.output, args.force)?;
    for (name, value) in [
        ("--train-size", args.train_size),
        ("--e2e-size", args.e2e_size),
        ("--batch-size", args.batch_size),
        ("--e2e-batch-size", args.e2e_batch_size),
    ] {
        if value == 0 {
            let message = format!("{name} is 0, expected 1 or more");
            return Err(Error::Setting(message));
        }
    }
    let device = Device::default();
    let loaded = LoadedMultimodal::open_by_block(&args.model, &device)?;
    if let Some(schemes) = &loaded.schemes {
        let message = format!(
            "the model is packed in {}, expected full precision",
            schemes.scheme
        );
        return Err(Error::input(&args.model, message));
    }
    check_room(&args.output, expected_size(&loaded.model, loaded.dtype()))?;
    let limit = loaded.config.text_config.positions();
    let beside = args.data.parent().unwrap_or("".as_ref()).to_path_buf();
    let all = Instructions::read(
        &args.data,
        &args.media.unwrap_or(beside),
        (loaded.conversations()?, loaded.processor()?),
        args.max_positions.unwrap_or(limit).min(limit),
    )?;
    // The first to validate with, and the others to learn from.
    let valid = all.part(0, args.val_size);
    let train = all.part(args.val_size, usize::MAX);
    let settings = QuantizeSettings {
        scheme: args.scheme,
        overrides: args.overrides,
        tower: args.tower_scheme,
        ..QuantizeSettings::new(args.scheme)
    };
    let data = loaders(
        [train.part(0, args.train_size), valid.part(0, 0)],
        [train.part(0, args.e2e_size), valid],
        [args.batch_size, args.e2e_batch_size],
        &device,
    );
    let mut stages = |stage: &Stage<'_, Multimodal>| {
        let (name, seconds) = (stage.name, stage.seconds);
        eprintln!("{name}: {seconds:.0} s");
    };
    let mut observer = (ProgressLines::stderr(), &mut stages);
    let packed = quantize(loaded.model.clone(), &settings, data, &mut observer)?;
    loaded.save_packed(&packed, &args.output, args.force)?;
    println!("saved to {}", args.output.display());
    Ok(())
}
