use crate::data::World;
use crate::error::Error;
use crate::little::{Little, Measure, bundled};
use crate::quantize::QuantizeSettings;
use crate::table::{Row, summary, table};
use burn::tensor::Device;
use burn_eqat::files::StagedFile;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Directory for the table and the packed models [default: `multimodal` in the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Only this model
    #[arg(long, value_name = "WORLD")]
    world: Option<World>,
}

/// The schemes that are compared.
const SCHEMES: [&str; 3] = ["w4g64", "w3g64", "w2g64"];

pub(super) fn run(args: Args) -> Result<(), Error> {
    let output = args
        .output
        .unwrap_or_else(|| std::env::temp_dir().join("multimodal"));
    std::fs::create_dir_all(&output).map_err(|error| Error::input(&output, error))?;
    let worlds = args.world.map_or(World::ALL.to_vec(), |world| vec![world]);
    let (mut text, mut results) = (String::new(), Vec::new());
    for world in worlds {
        let measure = Measure::default();
        let little = Little::open(world, &bundled(world), measure.clone(), &Device::default())?;
        let title = format!(
            "{world}: {} questions about unseen samples; sampled answers at temperature {}, seed {}\n\n",
            little.questions(),
            measure.sampling.temperature,
            measure.sampling.seed
        );
        print!("{title}");
        let rows = compare(&little, &output)?;
        let body = format!("{}{}\n", table(world, &rows), summary(&rows));
        print!("\n{body}");
        text += &(title + &body);
        results.push(json!({"world": world.name(), "kinds": world.kinds(), "rows": rows}));
    }
    write(&output.join("table.txt"), &text)?;
    write(
        &output.join("table.json"),
        &format!("{:#}\n", json!(results)),
    )?;
    println!(
        "The tables and the packed models are in {}.",
        output.display()
    );
    Ok(())
}

/// Takes a model to each scheme, and saves what comes out.
fn compare(little: &Little, output: &Path) -> Result<Vec<Row>, Error> {
    let start = Instant::now();
    let mut say = |row: &Row| {
        let (scheme, stage, greedy) = (&row.scheme, &row.stage, 100.0 * row.greedy.all);
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{seconds:>6.0} s  {scheme:<6} {stage:<15} {greedy:>6.1} %");
    };
    let full = little.row(&little.loaded.model, ("-", "full-precision"), 0.0)?;
    say(&full);
    let mut rows = vec![full];
    for scheme in SCHEMES {
        // All of the model, since its decoder alone is so little that it has bits to spare.
        let settings = QuantizeSettings {
            tower: Some(scheme.parse()?),
            ..QuantizeSettings::new(scheme.parse()?)
        };
        let (packed, more) = little.quantize(&settings, &mut say)?;
        rows.extend(more);
        let dir = output.join(format!("{}-{scheme}", little.world));
        little.loaded.save_packed(&packed, &dir, true)?;
    }
    Ok(rows)
}

/// Writes a text beside its file, and renames it.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut staged = StagedFile::begin(path)?;
    let written = staged.file().write_all(text.as_bytes());
    written.map_err(|error| Error::input(path, error))?;
    Ok(staged.commit()?)
}
