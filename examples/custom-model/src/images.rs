//! The data: small images of coloured shapes, drawn on request.

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// Width and height of an image, in pixels.
pub const SIZE: usize = 16;
/// Numbers of an image: three colours for each pixel.
const VALUES: usize = 3 * SIZE * SIZE;

/// The shapes: whether a point `(x, y)` is inside a shape of radius 1 around the origin.
const SHAPES: [fn(f32, f32) -> bool; 6] = [
    // Disc, ring, square, triangle, plus, and two bars.
    |x, y| x * x + y * y < 0.7,
    |x, y| (0.35..1.0).contains(&(x * x + y * y)),
    |x, y| x.abs().max(y.abs()) < 0.75,
    |x, y| y < 0.6 && y > 1.9 * x.abs() - 1.0,
    |x, y| x.abs().min(y.abs()) < 0.28 && x.abs().max(y.abs()) < 0.95,
    |x, y| (0.25..0.75).contains(&x.abs()) && y.abs() < 0.85,
];

/// The colours: red, green and blue.
const COLOURS: [[f32; 3]; 5] = [
    [0.85, 0.2, 0.2],
    [0.2, 0.75, 0.25],
    [0.25, 0.3, 0.9],
    [0.85, 0.75, 0.2],
    [0.75, 0.25, 0.8],
];

/// A class is a shape in a colour.
pub const CLASSES: usize = SHAPES.len() * COLOURS.len();

/// An image and its class.
#[derive(Clone, Debug)]
pub struct Image {
    /// Red, then green, then blue, each row by row.
    pub pixels: Vec<f32>,
    /// From 0 to [`CLASSES`].
    pub class: usize,
}

/// A data set of images. Each image depends only on the seed and its index, so data sets of different seeds
/// share no image, and no image has to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// The seed of the images.
    pub seed: u64,
    /// How many images it has.
    pub count: usize,
}

impl Dataset<Image> for Images {
    fn get(&self, index: usize) -> Result<Image, DatasetError> {
        let random = StdRng::seed_from_u64((self.seed << 32) + index as u64);
        Ok(draw(random))
    }

    fn len(&self) -> usize {
        self.count
    }
}

/// Draws a shape of any size, place and angle on noise.
fn draw(mut random: StdRng) -> Image {
    let class = random.random_range(0..CLASSES);
    let shape = SHAPES[class / COLOURS.len()];
    let light: f32 = random.random_range(0.8..1.1);
    let colour = COLOURS[class % COLOURS.len()].map(|c| light * c);
    let ground: [f32; 3] = std::array::from_fn(|_| random.random_range(0.2..0.4));
    let radius: f32 = random.random_range(5.0..7.5);
    let middle = 0.5 * (SIZE - 1) as f32;
    let place = middle - 1.5..middle + 1.5;
    let (x, y) = (
        random.random_range(place.clone()),
        random.random_range(place),
    );
    let (sin, cos) = random.random_range(-0.15..0.15f32).sin_cos();
    let mut pixels = vec![0.0; VALUES];
    for pixel in 0..SIZE * SIZE {
        let (u, v) = ((pixel % SIZE) as f32 - x, (pixel / SIZE) as f32 - y);
        let inside = shape((cos * u + sin * v) / radius, (cos * v - sin * u) / radius);
        let paint = if inside { colour } else { ground };
        for (channel, value) in paint.into_iter().enumerate() {
            let noise: f32 = random.random_range(-0.25..0.25);
            pixels[channel * SIZE * SIZE + pixel] = value + noise;
        }
    }
    Image { pixels, class }
}

/// A batch for a step.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// `[batch, 3, SIZE, SIZE]`
    pub images: Tensor<4>,
    /// `[batch]`
    pub classes: Tensor<1, Int>,
}

/// Puts images into tensors.
#[derive(Clone, Debug)]
pub struct ImageBatcher;

impl Batcher<Image, ImageBatch> for ImageBatcher {
    fn batch(&self, items: Vec<Image>, device: &Device) -> ImageBatch {
        let count = items.len();
        let classes: Vec<i32> = items.iter().map(|image| image.class as i32).collect();
        let pixels: Vec<f32> = items.into_iter().flat_map(|image| image.pixels).collect();
        ImageBatch {
            images: Tensor::from_data(TensorData::new(pixels, [count, 3, SIZE, SIZE]), device),
            classes: Tensor::from_data(TensorData::new(classes, [count]), device),
        }
    }
}

impl Images {
    /// A Burn data loader of these images.
    pub fn loader(self, batch_size: usize, device: &Device) -> Arc<dyn DataLoader<ImageBatch>> {
        DataLoaderBuilder::new(ImageBatcher)
            .batch_size(batch_size)
            .set_device(device.clone())
            .build(self)
    }
}
