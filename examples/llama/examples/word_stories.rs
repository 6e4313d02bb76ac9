//! Whether a tuned model does as it is told: stories that have to have given words in them.
//!
//! `make` turns stories into instructions ("Write a story with the words kite and puddle."), and holds some back. `measure` has a
//! packed model follow those, with its own step sizes and with adapters of `llama tune`, and counts the words. It switches from one
//! adapter to the next in memory, and says how long that took.
//!
//!     cargo run --release -p llama --example word_stories -- make --text stories.txt --output words
//!     llama tune --model packed --data words/train.json --adapter words/tuned.safetensors --epochs 3
//!     cargo run --release -p llama --example word_stories -- measure --model packed --data words/test.json \
//!         --adapter words/tuned.safetensors

use burn::tensor::Device;
use burn_eqat::adapter::{Adapted, Adapter};
use burn_eqat::lm::{Sampler, read_documents};
use clap::{Args, Parser};
use llama::LoadedLlama;
use llama::chat::Message;
use llama::generate::answer;
use llama::tune::Prompts;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Parser)]
enum Command {
    /// Turn stories into instructions
    Make(Make),
    /// Count the words in stories that a model writes
    Measure(Measure),
}

#[derive(Args)]
struct Make {
    /// Stories, separated by lines `<|endoftext|>`, or `.jsonl` with a field `text`; may be repeated
    #[arg(long, required = true)]
    text: Vec<PathBuf>,
    /// Where to write train.json and test.json
    #[arg(long)]
    output: PathBuf,
    /// Instructions to hold back for the test
    #[arg(long, default_value_t = 100)]
    test: usize,
    /// Bytes of the longest story to use
    #[arg(long, default_value_t = 900)]
    longest: usize,
    /// Seed of the choice of words and stories
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(Args)]
struct Measure {
    /// A packed model
    #[arg(long)]
    model: PathBuf,
    /// Step sizes to measure it with besides its own; may be repeated
    #[arg(long)]
    adapter: Vec<PathBuf>,
    /// Instructions that were held back
    #[arg(long)]
    data: PathBuf,
    /// Tokens of a story
    #[arg(long, default_value_t = 160)]
    max_new_tokens: usize,
    /// 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Show the first stories
    #[arg(long, default_value_t = 0)]
    show: usize,
}

/// An instruction in Alpaca's form, with the words that it asks for.
#[derive(Serialize, Deserialize)]
struct Record {
    instruction: String,
    output: String,
    words: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    match Command::parse() {
        Command::Make(args) => make(&args),
        Command::Measure(args) => measure(&args),
    }
}

/// The words of a text in small letters.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphabetic());
    words
        .filter(|word| word.len() >= 3)
        .map(str::to_lowercase)
        .collect()
}

fn make(args: &Make) -> Result<(), Box<dyn Error>> {
    let mut stories = Vec::new();
    for path in &args.text {
        stories.extend(read_documents(path)?);
    }
    // Names are no words to ask for: what is written with a capital somewhere.
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for story in &stories {
        for word in words(story) {
            *counts.entry(word).or_default() += 1;
        }
        let capital = story.split(|c: char| !c.is_alphabetic());
        names.extend(
            capital
                .filter(|word| word.starts_with(char::is_uppercase))
                .map(str::to_lowercase),
        );
    }
    // Words that few stories have: a model that does not listen would hardly ever write them.
    let (least, most) = (3, (stories.len() / 33).max(3));
    let mut rng = StdRng::seed_from_u64(args.seed);
    let mut records = Vec::new();
    for story in stories.iter().filter(|story| story.len() <= args.longest) {
        let rare = words(story).into_iter();
        let rare: Vec<String> = rare
            .filter(|word| (least..=most).contains(&counts[word]) && !names.contains(word))
            .collect();
        let chosen: Vec<String> = rare.sample(&mut rng, 2).cloned().collect();
        if let [a, b] = &chosen[..] {
            records.push(Record {
                instruction: format!("Write a story with the words {a} and {b}."),
                output: story.clone(),
                words: chosen,
            });
        }
    }
    records.shuffle(&mut rng);
    if records.len() <= args.test {
        let found = records.len();
        return Err(format!(
            "{found} stories have two rare words, expected more than {}",
            args.test
        )
        .into());
    }
    let train = records.split_off(args.test);
    fs::create_dir_all(&args.output)?;
    for (name, records) in [("train.json", &train), ("test.json", &records)] {
        fs::write(
            args.output.join(name),
            serde_json::to_string_pretty(records)?,
        )?;
    }
    println!(
        "{} stories: {} instructions to train on, {} held back",
        stories.len(),
        train.len(),
        records.len()
    );
    Ok(())
}

fn measure(args: &Measure) -> Result<(), Box<dyn Error>> {
    let records: Vec<Record> = serde_json::from_slice(&fs::read(&args.data)?)?;
    let device = Device::flex();
    let start = Instant::now();
    let mut loaded = LoadedLlama::open(&args.model, &device)?;
    println!("the model was read in {:.2} ms", milliseconds(start));
    let start = Instant::now();
    let mut adapted = Adapted::new(loaded.model.clone())?;
    println!("its codes were summed up in {:.2} ms", milliseconds(start));
    println!(
        "\n{:<28} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "step sizes", "words", "by chance", "both", "read, ms", "switch, ms"
    );
    let sets = [None].into_iter().chain(args.adapter.iter().map(Some));
    for path in sets {
        let (mut read, mut switch) = (0.0, 0.0);
        match path {
            Some(path) => {
                let start = Instant::now();
                let adapter = Adapter::load(path)?;
                read = milliseconds(start);
                let start = Instant::now();
                adapted.switch(&adapter)?;
                switch = milliseconds(start);
            }
            None => adapted.reset(),
        }
        loaded.model = adapted.model().clone();
        let name = path.and_then(|path| path.file_name()).map(Path::new);
        let name = name.map_or("its own".to_string(), |name| name.display().to_string());
        let Found {
            words,
            chance,
            both,
        } = follow(&loaded, &records, args, &device)?;
        println!(
            "{name:<28} {words:>9.1}% {chance:>9.1}% {both:>9.1}% {read:>10.2} {switch:>10.2}"
        );
    }
    Ok(())
}

/// What was found in the stories of a model, in percent.
struct Found {
    /// Of the words that were asked for.
    words: f64,
    /// Of the words that were asked for in the next instruction: what a story has without being asked.
    chance: f64,
    /// Stories that have all of their words.
    both: f64,
}

fn follow(
    loaded: &LoadedLlama,
    records: &[Record],
    args: &Measure,
    device: &Device,
) -> Result<Found, Box<dyn Error>> {
    let tokenizer = loaded.tokenizer()?;
    let prompts = Prompts::of(loaded, &tokenizer)?;
    let (mut found, mut chance, mut both, mut asked) = (0, 0, 0, 0);
    for (index, record) in records.iter().enumerate() {
        let prompt = prompts.prompt(&[Message::new("user", &record.instruction)])?;
        let mut sampler = Sampler::new(args.temperature, 1.0, index as u64);
        let story = answer(
            loaded,
            &tokenizer,
            &prompt,
            args.max_new_tokens,
            &mut sampler,
            device,
            &mut |_| Ok(()),
        )?;
        if index < args.show {
            println!("> {}\n{}\n", record.instruction, story.text.trim());
        }
        let there = words(&story.text);
        let count = |words: &[String]| words.iter().filter(|word| there.contains(*word)).count();
        let own = count(&record.words);
        found += own;
        both += usize::from(own == record.words.len());
        chance += count(&records[(index + 1) % records.len()].words);
        asked += record.words.len();
    }
    let percent = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
    Ok(Found {
        words: percent(found, asked),
        chance: percent(chance, asked),
        both: percent(both, records.len()),
    })
}

fn milliseconds(start: Instant) -> f64 {
    1e3 * start.elapsed().as_secs_f64()
}
