//! Images of digits of seven segments, for the classifier.

use crate::data::Task;
use crate::random::Random;
use burn::tensor::{Device, Tensor, TensorData};

/// Width and height of an image, in pixels.
const SIZE: usize = 16;

/// The lines from `(x0, y0)` to `(x1, y1)`, from top to bottom.
const SEGMENTS: [[f64; 4]; 7] = [
    [0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 1.0],
    [1.0, 0.0, 1.0, 1.0],
    [0.0, 1.0, 1.0, 1.0],
    [0.0, 1.0, 0.0, 2.0],
    [1.0, 1.0, 1.0, 2.0],
    [0.0, 2.0, 1.0, 2.0],
];

/// The segments of each digit; the first is the lowest bit.
const LIT: [u8; 10] = [
    0b111_0111, 0b010_0100, 0b101_1101, 0b110_1101, 0b010_1110, 0b110_1011, 0b111_1011, 0b010_0101,
    0b111_1111, 0b110_1111,
];

/// Which digit is it? Images are `[batch, 1, SIZE, SIZE]`.
#[derive(Clone, Copy, Debug)]
pub struct Digits;

impl Task for Digits {
    type Number = f32;
    type Inputs = Tensor<4>;

    /// A digit of any size, place and slant, on noise.
    fn draw(mut random: Random) -> (Vec<f32>, usize) {
        let digit = random.below(LIT.len());
        let side = random.between(3.6, 5.4);
        let (left, top) = (random.between(2.5, 7.0), random.between(1.5, 4.0));
        let (slant, width) = (random.between(-0.25, 0.25), random.between(0.14, 0.26));
        let (ground, ink) = (random.between(0.0, 0.3), random.between(0.45, 0.8));
        let pixels = (0..SIZE * SIZE).map(|pixel| {
            let y = ((pixel / SIZE) as f64 - top) / side;
            let x = ((pixel % SIZE) as f64 - left) / side + slant * (y - 1.0);
            let near = |[x0, y0, x1, y1]: [f64; 4]| {
                let (dx, dy) = (x - x.clamp(x0, x1), y - y.clamp(y0, y1));
                dx * dx + dy * dy < width * width
            };
            let lit = |index: usize| (LIT[digit] >> index) & 1 == 1;
            let inside = (0..SEGMENTS.len()).any(|index| lit(index) && near(SEGMENTS[index]));
            let paint = if inside { ink } else { ground };
            (paint + random.between(-NOISE, NOISE)) as f32
        });
        (pixels.collect(), digit)
    }

    fn inputs(pixels: Vec<f32>, count: usize, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(pixels, [count, 1, SIZE, SIZE]), device)
    }
}

/// The most that noise adds to a pixel.
const NOISE: f64 = 0.25;
