//! Pictures of one to three shapes, each in a quarter of its own.

use super::world::{Made, Sample, Turn};
use image::{Rgb, RgbImage};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

/// Width and height of a picture, in pixels.
pub(crate) const SIZE: usize = 32;
/// Width and height of a quarter.
const QUARTER: usize = SIZE / 2;

/// How far a shape may be from the middle of its quarter, in pixels.
const ROOM: f32 = 0.5;

/// The kinds of questions.
pub(super) const KINDS: [&str; 5] = ["colour", "count", "size", "is-there", "caption"];

const COLOURS: [(&str, [f32; 3]); 5] = [
    ("red", [0.85, 0.15, 0.15]),
    ("green", [0.15, 0.7, 0.2]),
    ("blue", [0.2, 0.3, 0.9]),
    ("yellow", [0.9, 0.8, 0.15]),
    ("white", [0.95, 0.95, 0.95]),
];

/// Whether a point `(x, y)` is inside a shape of radius 1 around the origin.
type Inside = fn(f32, f32) -> bool;

/// The shapes, one and many of them.
const SHAPES: [(&str, &str, Inside); 3] = [
    ("circle", "circles", |x, y| x * x + y * y < 0.75),
    ("square", "squares", |x, y| x.abs().max(y.abs()) < 0.98),
    ("triangle", "triangles", |x, y| {
        y < 0.8 && y > 2.0 * x.abs() - 1.1
    }),
];

const SIZES: [(&str, std::ops::Range<f32>); 2] = [("small", 4.2..4.8), ("big", 6.6..7.4)];

const CAPTION: &str = "what is in the picture?";

/// A shape of a picture.
#[derive(Clone, Copy, Debug)]
struct Thing {
    shape: usize,
    colour: usize,
    size: usize,
    /// Its quarter, row by row.
    quarter: usize,
}

/// Every word of questions and answers.
pub(super) fn words() -> Vec<&'static str> {
    let mut words = vec![
        "what", "colour", "is", "the", "how", "many", "there", "a", "or", "in", "picture", "and",
        "yes", "no", "0", "1", "2", "3",
    ];
    words.extend(COLOURS.iter().map(|(name, _)| *name));
    words.extend(SHAPES.iter().flat_map(|(one, many, _)| [*one, *many]));
    words.extend(SIZES.iter().map(|(name, _)| *name));
    words
}

/// A picture with questions of every kind that it allows.
pub(super) fn sample(random: &mut StdRng) -> Sample {
    let mut quarters = [0, 1, 2, 3];
    quarters.shuffle(random);
    let count = random.random_range(1..=3);
    let mut things: Vec<Thing> = quarters[..count]
        .iter()
        .map(|quarter| Thing {
            shape: random.random_range(0..SHAPES.len()),
            colour: random.random_range(0..COLOURS.len()),
            size: random.random_range(0..SIZES.len()),
            quarter: *quarter,
        })
        .collect();
    things.sort_by_key(|thing| thing.quarter);
    Sample {
        made: Made::Picture(draw(&things, random)),
        turns: turns(&things, random),
    }
}

fn turns(things: &[Thing], random: &mut StdRng) -> Vec<Turn> {
    let mut turns = Vec::new();
    let of_shape = |shape| things.iter().filter(move |thing| thing.shape == shape);
    // Of the only one of its shape.
    let single: Vec<&Thing> = things
        .iter()
        .filter(|thing| of_shape(thing.shape).count() == 1)
        .collect();
    if let Some(thing) = single.choose(random) {
        let question = format!("what colour is the {}?", SHAPES[thing.shape].0);
        turns.push(Turn::new("colour", question, COLOURS[thing.colour].0));
    }
    if let Some(thing) = single.choose(random) {
        let question = format!("is the {} small or big?", SHAPES[thing.shape].0);
        turns.push(Turn::new("size", question, SIZES[thing.size].0));
    }
    let shape = random.random_range(0..SHAPES.len());
    let question = format!("how many {}?", SHAPES[shape].1);
    turns.push(Turn::new("count", question, of_shape(shape).count()));

    // As often there as not, and half of what is not there differs from what is there in one respect.
    let there = things.choose(random).expect("there is a thing");
    let (mut shape, mut colour) = (there.shape, there.colour);
    if random.random() {
        match random.random_range(0..3) {
            0 => shape = random.random_range(0..SHAPES.len()),
            1 => colour = random.random_range(0..COLOURS.len()),
            _ => {
                shape = random.random_range(0..SHAPES.len());
                colour = random.random_range(0..COLOURS.len());
            }
        }
    }
    let question = format!("is there a {} {}?", COLOURS[colour].0, SHAPES[shape].0);
    let answer = of_shape(shape).any(|thing| thing.colour == colour);
    turns.push(Turn::new(
        "is-there",
        question,
        if answer { "yes" } else { "no" },
    ));

    let names = things.iter().map(|thing| {
        let (size, colour) = (SIZES[thing.size].0, COLOURS[thing.colour].0);
        format!("a {size} {colour} {}", SHAPES[thing.shape].0)
    });
    let caption = names.collect::<Vec<_>>().join(" and ");
    turns.push(Turn::new("caption", CAPTION.to_string(), caption));
    turns.shuffle(random);
    turns
}

/// Draws shapes on a dark ground, with a little noise.
fn draw(things: &[Thing], random: &mut StdRng) -> RgbImage {
    let ground: f32 = random.random_range(0.1..0.3);
    let mut colours = vec![[ground; 3]; SIZE * SIZE];
    for thing in things {
        let radius = random.random_range(SIZES[thing.size].1.clone());
        let room = (0.5 * QUARTER as f32 - radius).min(ROOM);
        let mut middle = |quarter: usize| {
            let centre = (quarter * QUARTER) as f32 + 0.5 * (QUARTER - 1) as f32;
            centre + room * random.random_range(-1.0..1.0f32)
        };
        let (x, y) = (middle(thing.quarter % 2), middle(thing.quarter / 2));
        let (_, _, inside) = SHAPES[thing.shape];
        for (at, colour) in colours.iter_mut().enumerate() {
            let (u, v) = ((at % SIZE) as f32 - x, (at / SIZE) as f32 - y);
            if inside(u / radius, v / radius) {
                *colour = COLOURS[thing.colour].1;
            }
        }
    }
    RgbImage::from_fn(SIZE as u32, SIZE as u32, |x, y| {
        let noise: f32 = random.random_range(-0.03..0.03);
        let colour = colours[y as usize * SIZE + x as usize];
        Rgb(colour.map(|value| (255.0 * (value + noise)).clamp(0.0, 255.0).round() as u8))
    })
}
