//! What a classifier sees of an image against torchvision's functional transforms, for fixed parameters. The numbers come
//! from `tests/reference/make_augment_golden.py`.

#![expect(clippy::unwrap_used, reason = "a test")]

use spnas::data::ImageSize;
use spnas::data::augment::{CropBox, centre_crop, flip, normalised, resize_shorter, resized_crop};
use spnas::data::colour::ColourChange;
use spnas::data::image_file::RgbPixels;
use spnas::weights::Tensors;
use spnas::weights::safetensors::from_bytes;
use tch::Tensor;

const WIDTH: u64 = 61;
const HEIGHT: u64 = 47;

/// The script's `image`.
fn image() -> RgbPixels {
    let mut bytes = Vec::new();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            for c in 0..3 {
                let noise = (x * 2_654_435_761 + y * 40_503 * (c + 3) + c * 97) % 65_521 % 61;
                let wave = ((x * (c + 2) + y * (4 - c)) % 194).abs_diff(97) * 2;
                bytes.push((wave + noise).min(255) as u8);
            }
        }
    }
    RgbPixels { bytes, size: ImageSize { width: WIDTH as u32, height: HEIGHT as u32 } }
}

fn golden() -> Tensors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/augment_golden.safetensors");
    from_bytes(&std::fs::read(path).unwrap()).unwrap().0
}

/// `[3, H, W]` of pixels.
fn tensor(pixels: &RgbPixels) -> Tensor {
    let shape = [i64::from(pixels.size.height), i64::from(pixels.size.width), 3];
    Tensor::from_slice(&pixels.bytes).view(shape).permute([2, 0, 1]).to_kind(tch::Kind::Float)
}

fn close(name: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), expected.size(), "{name}");
    let worst = (got - expected).abs().max().double_value(&[]);
    assert!(worst <= tolerance, "{name}: off by {worst}");
}

#[test]
fn both_languages_make_the_same_image() {
    let sums = tensor(&image()).sum_dim_intlist([1i64, 2].as_slice(), false, tch::Kind::Float);
    close("image", &sums, &golden()["image_sums"], 0.0);
}

#[test]
fn parts_and_middles_are_resampled_as_pillow_does() {
    let (golden, image) = (golden(), image());
    for (name, top, left, height, width, side) in
        [("shrunk", 3, 5, 40, 50, 16), ("grown", 20, 11, 9, 13, 24), ("whole", 0, 0, 47, 61, 20)]
    {
        let part = CropBox { left, top, size: ImageSize { width, height } };
        let got = resized_crop(&image, part, ImageSize { width: side, height: side }).unwrap();
        close(name, &tensor(&got), &golden[&format!("crop.{name}")], 1.0);
    }
    for (resize, side) in [(32, 28), (60, 51)] {
        let got = centre_crop(&resize_shorter(&image, resize).unwrap(), side).unwrap();
        close("middle", &tensor(&got), &golden[&format!("middle.{resize}.{side}")], 1.0);
    }
}

#[test]
fn mirror_images_and_normalised_floats_are_torchvisions() {
    let (golden, mut mirrored) = (golden(), image());
    flip(&mut mirrored);
    close("flip", &tensor(&mirrored), &golden["flip"], 0.0);
    let middle = centre_crop(&image(), 8).unwrap();
    close("normalised", &Tensor::from_slice(&normalised(&middle)).view((3, 8, 8)), &golden["normalised"], 1e-6);
}

#[test]
fn colours_change_as_in_torchvision() {
    use ColourChange::{Brightness, Contrast, Hue, Saturation};
    let golden = golden();
    for (name, change) in [
        ("brightness.0", Brightness(0.37)),
        ("brightness.1", Brightness(1.63)),
        ("contrast.0", Contrast(0.42)),
        ("contrast.1", Contrast(1.9)),
        ("saturation.0", Saturation(0.3)),
        ("saturation.1", Saturation(2.4)),
        ("hue.0", Hue(-0.21)),
        ("hue.1", Hue(0.5)),
    ] {
        let mut pixels = image();
        change.apply(&mut pixels);
        let got = tensor(&pixels).slice(1, None, None, 2).slice(2, None, None, 2);
        // One level: where rounding decides which level a fraction falls to.
        close(name, &got, &golden[name], 1.0);
        let off = (got - &golden[name]).abs().mean(tch::Kind::Float).double_value(&[]);
        assert!(off < 0.01, "{name}: off by {off} on average");
    }
}
