//! Parts of images: they lie inside, are spread as the range says, and what is set is what is done. The pixels themselves
//! are compared with torchvision's in `tests/augment_golden.rs`.

use proptest::prelude::*;
use rand_chacha::rand_core::SeedableRng as _;

use super::*;

fn size(width: u32, height: u32) -> ImageSize {
    ImageSize { width, height }
}

/// Red counts the columns, green the rows.
fn pixels(width: u32, height: u32) -> RgbPixels {
    let bytes = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 200])).collect();
    RgbPixels { bytes, size: size(width, height) }
}

fn training(flip: f64, crop: CropRange) -> View {
    View::Training(TrainingView { size: 8, crop, flip, jitter: ColourJitter::NONE })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_part_lies_inside_its_image(
        (width, height) in (1u32..200, 1u32..200),
        (least, most) in (0.001f64..1.0, 0.001f64..1.0),
        (narrow, wide) in (0.01f64..10.0, 0.01f64..10.0),
        seed in 0u64..1000,
    ) {
        let range = CropRange { area: (least.min(most), least.max(most)), ratio: (narrow.min(wide), narrow.max(wide)) };
        range.check().unwrap();
        let part = range.draw(size(width, height), &mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert!(part.size.width >= 1 && part.left + part.size.width <= width);
        prop_assert!(part.size.height >= 1 && part.top + part.size.height <= height);
    }
}

#[test]
fn areas_are_uniform_shapes_log_uniform_and_places_uniform() {
    // Small parts of a large image: none is rejected, and rounding is small.
    let range = CropRange { area: (0.02, 0.2), ratio: (0.5, 2.0) };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let count = 20_000;
    let (mut area, mut log_ratio, mut left, mut top) = (0.0, 0.0, 0.0, 0.0);
    let mut wide = 0;
    for _ in 0..count {
        let part = range.draw(size(4000, 4000), &mut rng);
        let (width, height) = (f64::from(part.size.width), f64::from(part.size.height));
        area += width * height / 16e6;
        log_ratio += (width / height).ln();
        wide += i32::from(width / height > 2.0f64.sqrt());
        left += f64::from(part.left) / (4000.0 - width);
        top += f64::from(part.top) / (4000.0 - height);
    }
    let mean = |sum: f64| sum / f64::from(count);
    // Four standard errors or more each.
    assert!((mean(area) - 0.11).abs() < 0.0016, "{}", mean(area));
    assert!(mean(log_ratio).abs() < 0.012, "{}", mean(log_ratio));
    assert!((f64::from(wide) / f64::from(count) - 0.25).abs() < 0.013, "a quarter is wider than √2 to 1: {wide}");
    assert!((mean(left) - 0.5).abs() < 0.009 && (mean(top) - 0.5).abs() < 0.009);
}

#[test]
fn an_image_of_no_allowed_shape_gives_its_middle() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let range = CropRange { area: (1.0, 1.0), ratio: (0.75, 4.0 / 3.0) };
    assert_eq!(range.draw(size(100, 10), &mut rng), CropBox { left: 43, top: 0, size: size(13, 10) });
    assert_eq!(range.draw(size(10, 100), &mut rng), CropBox { left: 0, top: 43, size: size(10, 13) });
    let square = CropRange { area: (1.0, 1.0), ratio: (1.0, 1.0) };
    assert_eq!(square.draw(size(9, 9), &mut rng), CropBox { left: 0, top: 0, size: size(9, 9) });
}

#[test]
fn the_middle_is_cut_where_torchvision_cuts_it() {
    // Python rounds halves to even: (9 - 4) / 2 is 2, (11 - 4) / 2 is 4.
    for (whole, start) in [(4, 0), (5, 0), (7, 2), (9, 2), (11, 4)] {
        let middle = centre_crop(&pixels(whole, whole), 4).unwrap();
        assert_eq!((middle.size, &middle.bytes[..2]), (size(4, 4), &[start, start][..]), "{whole}");
    }
    assert!(centre_crop(&pixels(3, 9), 4).unwrap_err().to_string().contains("not within 3x9"));
}

#[test]
fn the_longer_side_follows_the_shorter() {
    for (from, to) in [(size(10, 7), size(5, 4)), (size(7, 10), size(4, 5)), (size(5, 5), size(4, 4))] {
        assert_eq!(resize_shorter(&pixels(from.width, from.height), 4).unwrap().size, to);
    }
}

#[test]
fn a_view_flips_as_often_as_it_is_told_to_and_repeats_for_a_seed() {
    let whole = CropRange { area: (1.0, 1.0), ratio: (1.0, 1.0) };
    let image = pixels(8, 8);
    let mut mirrored = image.clone();
    flip(&mut mirrored);
    assert_eq!(mirrored.bytes[..6], [7, 0, 200, 6, 0, 200]);
    let seen = |flip: f64, seed: u64| training(flip, whole).of(&image, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    assert_eq!((seen(0.0, 1), seen(1.0, 1)), (image.clone(), mirrored.clone()));
    let flips = (0..400).filter(|seed| seen(0.5, *seed) == mirrored).count();
    assert!((160..240).contains(&flips), "{flips}");

    let view = training(0.5, CropRange::default());
    let part = |seed| view.of(&pixels(50, 40), &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    assert_eq!(part(3), part(3));
    assert_ne!(part(3), part(4));
}

#[test]
fn normalised_floats_are_planes_about_zero() {
    let floats = normalised(&RgbPixels { bytes: vec![0, 128, 255, 255, 0, 51], size: size(2, 1) });
    let expected = [
        -0.485 / 0.229,
        (1.0 - 0.485) / 0.229,
        (128.0 / 255.0 - 0.456) / 0.224,
        -0.456 / 0.224,
        (1.0 - 0.406) / 0.225,
        (0.2 - 0.406) / 0.225,
    ];
    assert!(floats.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{floats:?}");
}

#[test]
fn a_view_that_cannot_be_is_refused() {
    let whole = CropRange::default();
    let evaluation = |size, resize| View::Evaluation(EvaluationView { size, resize });
    for (view, expected) in [
        (training(1.5, whole), "flip"),
        (training(0.5, CropRange { area: (0.0, 1.0), ..whole }), "area"),
        (training(0.5, CropRange { area: (0.5, 0.4), ..whole }), "area"),
        (training(0.5, CropRange { ratio: (2.0, 1.0), ..whole }), "ratio"),
        (evaluation(0, 4), "size"),
        (evaluation(8, 7), "resize"),
    ] {
        assert!(view.check().unwrap_err().to_string().contains(expected), "{expected}");
    }
    assert!(View::Evaluation(EvaluationView::of_size(224)).check().is_ok());
    assert_eq!(EvaluationView::of_size(224).resize, 256);
}
