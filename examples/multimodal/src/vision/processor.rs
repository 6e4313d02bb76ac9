use crate::config::ConfigError;
use crate::error::Error;
use crate::front::Input;
use burn::tensor::TensorData;
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Prepares images as CLIP's processor does: the shorter side to a size, the middle cut out, and each colour normalized.
/// Its fields are those of `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageProcessor {
    /// Whether to resize.
    #[serde(default = "yes")]
    pub do_resize: bool,
    /// The length that the shorter side gets.
    pub size: Size,
    /// How to resize, by the numbers of the Python library PIL: 0 nearest, 1 Lanczos, 2 linear, 3 cubic.
    #[serde(default = "cubic")]
    pub resample: u32,
    /// Whether to cut.
    #[serde(default = "yes")]
    pub do_center_crop: bool,
    /// The size that is cut out of the middle.
    pub crop_size: Size,
    /// What each colour is multiplied with, from 0 to 255.
    #[serde(default = "part_of_255")]
    pub rescale_factor: f64,
    /// The mean of each colour, which is subtracted after that.
    pub image_mean: [f32; 3],
    /// The deviation of each colour, by which it is divided then.
    pub image_std: [f32; 3],
}

/// A size in one of the ways that files have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// A number, for both sides or the shorter one.
    Side(usize),
    /// The shorter side.
    Shortest {
        /// Its length.
        shortest_edge: usize,
    },
    /// Both sides.
    Sides {
        /// Height.
        height: usize,
        /// Width.
        width: usize,
    },
}

impl Size {
    /// `[height, width]` of what is cut out.
    fn sides(self) -> [usize; 2] {
        match self {
            Size::Side(side)
            | Size::Shortest {
                shortest_edge: side,
            } => [side; 2],
            Size::Sides { height, width } => [height, width],
        }
    }

    /// `[height, width]` of an image of another size, resized.
    fn resized(self, [height, width]: [usize; 2]) -> [usize; 2] {
        let shortest = match self {
            Size::Sides { height, width } => return [height, width],
            Size::Side(side)
            | Size::Shortest {
                shortest_edge: side,
            } => side,
        };
        let longest = (shortest * height.max(width)) / height.min(width).max(1);
        if height <= width {
            [shortest, longest]
        } else {
            [longest, shortest]
        }
    }
}

fn yes() -> bool {
    true
}
fn cubic() -> u32 {
    3
}
fn part_of_255() -> f64 {
    1.0 / 255.0
}

/// The longest side that is resized to.
const LONGEST: usize = 1 << 14;

impl ImageProcessor {
    /// For images of that size, whose colours come from -1 to 1.
    pub fn square(size: usize) -> Self {
        Self {
            do_resize: true,
            size: Size::Shortest {
                shortest_edge: size,
            },
            resample: cubic(),
            do_center_crop: true,
            crop_size: Size::Sides {
                height: size,
                width: size,
            },
            rescale_factor: part_of_255(),
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
        }
    }

    /// Fails for numbers that no image can be prepared with, or that are not those of a model's images.
    pub(crate) fn check(&self, image_size: usize) -> Result<(), ConfigError> {
        self.filter()?;
        let sides = if self.do_center_crop {
            self.crop_size.sides()
        } else {
            self.size.sides()
        };
        if sides != [image_size; 2] {
            let found = format!("{} x {}", sides[0], sides[1]);
            let expected = format!("vision_config.image_size {image_size} x {image_size}");
            return Err(ConfigError::new("crop_size", found, expected));
        }
        for (field, [height, width]) in [
            ("size", self.size.sides()),
            ("crop_size", self.crop_size.sides()),
        ] {
            ConfigError::check_size(field, height, LONGEST)?;
            ConfigError::check_size(field, width, LONGEST)?;
        }
        let wrong = |std: &&f32| !(std.is_finite() && **std > 0.0);
        match self.image_std.iter().find(wrong) {
            Some(std) => Err(ConfigError::new("image_std", std, "positive numbers")),
            None => Ok(()),
        }
    }

    fn filter(&self) -> Result<FilterType, ConfigError> {
        match self.resample {
            0 => Ok(FilterType::Nearest),
            1 => Ok(FilterType::Lanczos3),
            2 => Ok(FilterType::Triangle),
            3 => Ok(FilterType::CatmullRom),
            other => Err(ConfigError::new("resample", other, "0, 1, 2 or 3")),
        }
    }

    /// Reads an image from a PNG or JPEG file and prepares it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no image, or is too long and thin.
    pub fn read(&self, path: &Path) -> Result<Input, Error> {
        let file = ImageReader::open(path).map_err(|error| Error::input(path, error))?;
        let file = file.with_guessed_format();
        let image = file.map_err(|error| Error::input(path, error))?.decode();
        let image = image.map_err(|error| Error::input(path, error))?;
        self.prepare(&image)
            .map_err(|error| Error::input(path, error))
    }

    /// Prepares an image.
    ///
    /// # Errors
    ///
    /// When it is empty, or so long and thin that its longer side would be absurd.
    pub fn prepare(&self, image: &DynamicImage) -> Result<Input, ConfigError> {
        let mut image = image.to_rgb8();
        let [height, width] = [image.height() as usize, image.width() as usize];
        ConfigError::check_size("the height", height, usize::MAX)?;
        ConfigError::check_size("the width", width, usize::MAX)?;
        if self.do_resize {
            let to = self.size.resized([height, width]);
            ConfigError::check_size("the longer side, resized,", to[0].max(to[1]), LONGEST)?;
            if to != [height, width] {
                image = imageops::resize(&image, to[1] as u32, to[0] as u32, self.filter()?);
            }
        }
        Ok(Input::Image(self.numbers(&image)))
    }

    /// The middle of an image as numbers, `[3, height, width]`.
    fn numbers(&self, image: &RgbImage) -> TensorData {
        let size = [image.height() as usize, image.width() as usize];
        let cut = if self.do_center_crop {
            self.crop_size.sides()
        } else {
            size
        };
        // Where an image is smaller than what is cut out of it, there is black around it.
        let start = [0, 1].map(|side| (size[side] as i64 - cut[side] as i64).div_euclid(2));
        let [height, width] = cut;
        let mut values = vec![0.0; 3 * height * width];
        for (at, value) in values.iter_mut().enumerate() {
            let (channel, pixel) = (at / (height * width), at % (height * width));
            let y = start[0] + (pixel / width) as i64;
            let x = start[1] + (pixel % width) as i64;
            let inside = |at: i64, side: usize| (0..size[side] as i64).contains(&at);
            let colour = if inside(y, 0) && inside(x, 1) {
                image.get_pixel(x as u32, y as u32)[channel]
            } else {
                0
            };
            let part = (f64::from(colour) * self.rescale_factor) as f32;
            *value = (part - self.image_mean[channel]) / self.image_std[channel];
        }
        TensorData::new(values, [3, height, width])
    }
}
