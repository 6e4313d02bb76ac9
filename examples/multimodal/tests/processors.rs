//! How images and sounds are prepared, beside transformers.

mod common;

use common::{assert_close, field, fixture, numbers};
use image::{DynamicImage, Rgb, RgbImage};
use multimodal::audio::SoundProcessor;
use multimodal::front::Input;
use multimodal::vision::ImageProcessor;
use serde_json::json;

#[test]
fn images_are_prepared_as_by_clip() {
    let fixture = fixture("processors");
    let (height, width) = (18, 26);
    let noise = numbers("image", height * width * 3);
    let image = RgbImage::from_fn(width as u32, height as u32, |x, y| {
        Rgb([0, 1, 2].map(|c| {
            let at = (y as usize * width + x as usize) * 3 + c;
            let value =
                128.0 + 4.0 * x as f32 - 5.0 * y as f32 + 20.0 * c as f32 + 40.0 * noise[at];
            value.clamp(0.0, 255.0) as u8
        }))
    });
    let processor: ImageProcessor = serde_json::from_value(json!({
        "size": {"shortest_edge": 12},
        "crop_size": {"height": 12, "width": 12},
        "resample": 3,
        "image_mean": fixture["image_mean"],
        "image_std": fixture["image_std"],
    }))
    .unwrap();
    let prepared = processor.prepare(&DynamicImage::ImageRgb8(image)).unwrap();
    let Input::Image(pixels) = prepared else {
        panic!("an image became something else");
    };
    assert_eq!(
        pixels.shape().as_slice().to_vec(),
        field::<Vec<usize>>(&fixture, "pixels_shape")
    );
    let pixels: Vec<f32> = pixels.iter::<f32>().collect();
    // PIL rounds to whole numbers between rows and columns: up to two steps of 255.
    let step = 1.0 / 255.0 / 0.26;
    let expected: Vec<f32> = field(&fixture, "pixels");
    assert_close("pixels", &pixels, &expected, 2.05 * step);
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    assert!((mean(&pixels) - mean(&expected)).abs() < 0.2 * step);
}

#[test]
fn sounds_are_prepared_as_by_whisper() {
    let fixture = fixture("processors");
    let sound: Vec<f32> = numbers("sound", 6000).iter().map(|x| 2.0 * x).collect();
    let processor: SoundProcessor = serde_json::from_value(json!({
        "feature_size": 20,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 16000,
        "sampling_rate": 16000,
    }))
    .unwrap();
    let Input::Sound(frames) = processor.prepare(&sound) else {
        panic!("a sound became something else");
    };
    let shape: Vec<usize> = field(&fixture, "frames_shape");
    assert_eq!(frames.shape().as_slice().to_vec(), shape);
    let frames: Vec<f32> = frames.iter::<f32>().collect();
    let at: Vec<usize> = field(&fixture, "frames_at");
    let expected: Vec<Vec<f32>> = field(&fixture, "frames");
    for (at, expected) in at.into_iter().zip(expected) {
        let frame: Vec<f32> = (0..shape[0])
            .map(|band| frames[band * shape[1] + at])
            .collect();
        assert_close(&format!("frame {at}"), &frame, &expected, 2e-4);
    }
}
