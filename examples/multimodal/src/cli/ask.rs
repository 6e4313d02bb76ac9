use crate::data::World;
use crate::error::Error;
use crate::front::Media;
use crate::little::bundled;
use crate::load::LoadedMultimodal;
use burn::tensor::Device;
use burn_eqat::lm::{LmError, Sampler};
use std::path::PathBuf;

/// Ask a question about an image or a sound
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Directory of a model, full-precision or packed [default: the bundled one that sees or hears]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// PNG or JPEG file
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "audio",
        conflicts_with = "audio"
    )]
    image: Option<PathBuf>,
    /// WAV file
    #[arg(long, value_name = "FILE")]
    audio: Option<PathBuf>,
    /// What to ask
    #[arg(long, value_name = "TEXT")]
    question: String,
    /// Tokens of the answer at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    max_new_tokens: usize,
    /// 0 takes the likeliest token each time; higher is more random
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    temperature: f64,
    /// Seed of the sampling
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        let message = format!("--temperature is {}, expected 0 or more", args.temperature);
        return Err(Error::Setting(message));
    }
    let (world, kind, file) = match (args.image, args.audio) {
        (Some(image), _) => (World::Shapes, "image", image),
        (None, Some(audio)) => (World::Tones, "audio", audio),
        (None, None) => return Err(Error::Setting("expected --image or --audio".into())),
    };
    let device = Device::default();
    let dir = args.model.unwrap_or_else(|| bundled(world));
    let loaded = LoadedMultimodal::open(&dir, &device)?;
    let processor = loaded.processor()?;
    if processor.kind() != kind {
        let (dir, takes) = (dir.display(), processor.kind());
        let message = format!("the model in {dir} takes --{takes}, and got --{kind}");
        return Err(Error::Setting(message));
    }
    let input = processor.read(&file)?;
    let conversations = loaded.conversations()?;
    let prompt = conversations.prompt(&args.question)?;
    let media = Media::stack(&[&input], &device).map_err(LmError::Model)?;
    let mut sampler = Sampler::new(args.temperature, 1.0, args.seed);
    let limits = loaded.limits(args.max_new_tokens);
    let answers = loaded
        .model
        .answer(media, &[prompt], &limits, &mut sampler, &device)?;
    for answer in answers {
        println!("{}", conversations.text(&answer)?);
    }
    Ok(())
}
