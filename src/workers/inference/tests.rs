//! Unit tests of inference: a batch changes no result.

use rand_chacha::rand_core::SeedableRng;
use tch::Kind;
use tempfile::TempDir;

use super::*;
use crate::nn::BatchNormMode;
use crate::nn::segmentation::SemanticFpnConfig;
use crate::workers::tiny;

/// Six images, every second of them wider, and a network for them.
fn loaded<T: Infer>(task: &T) -> (TempDir, Vec<PathBuf>, Loaded<T>) {
    let folder = tempfile::tempdir().unwrap();
    let part = tiny::part(folder.path(), LoaderConfig::evaluation(1), 40);
    let images = (0..part.source.len()).map(|index| part.source.path(index)).collect();
    let store = VarStore::new(tch::Device::Cpu);
    task.build(&tiny::arch(None), store.root(), &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
    let weights = folder.path().join("model.safetensors");
    std::fs::write(&weights, safetensors::to_bytes(&store, &Default::default()).unwrap()).unwrap();
    let device = Device::new(Place::Cpu { index: 0 }, 1);
    let network = Loaded::new(task, &tiny::arch(None), &weights, &device).unwrap();
    (folder, images, network)
}

/// What is found in each image, by its place; and the order in which they came.
fn found<T: Infer>(network: &Loaded<T>, images: &[PathBuf], batch: usize) -> (Vec<T::Found>, Vec<usize>) {
    let mut all: Vec<(usize, T::Found)> = network.found(images, batch).unwrap().map(Result::unwrap).collect();
    let order = all.iter().map(|(place, _)| *place).collect();
    all.sort_by_key(|(place, _)| *place);
    assert_eq!(all.iter().map(|(place, _)| *place).collect::<Vec<_>>(), (0..images.len()).collect::<Vec<_>>());
    (all.into_iter().map(|(_, found)| found).collect(), order)
}

#[test]
fn objects_are_found_in_batches_as_in_one_image_at_a_time() {
    let (_folder, images, detector) = loaded(&tiny::detection(BatchNormMode::Trained));
    let (one, _) = found(&detector, &images, 1);
    assert!(one.iter().all(|found| !found.boxes.is_empty()));
    for (batch, expected) in [(2, [0, 2, 4, 1, 3, 5]), (64, [0, 2, 4, 1, 3, 5])] {
        let (several, order) = found(&detector, &images, batch);
        assert_eq!(order, expected, "one size after the other");
        for (several, one) in several.iter().zip(&one) {
            assert_eq!(several.labels, one.labels);
            let pairs = |one: &Found| one.boxes.concat().into_iter().chain(one.scores.clone()).collect::<Vec<f32>>();
            let (several, one) = (pairs(several), pairs(one));
            assert!(several.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-3), "{several:?}, {one:?}");
        }
    }
}

#[test]
fn pixels_are_told_in_batches_as_in_one_image_at_a_time() {
    let config =
        SemanticFpnConfig { num_classes: 3, fpn_channels: 4, head_channels: 4, ..SemanticFpnConfig::default() };
    let transform = tiny::detection(BatchNormMode::Trained).0.transform;
    let (_folder, images, segmenter) = loaded(&Segmentation(SemanticFpnConfig { transform, ..config }));
    let (one, several) = (found(&segmenter, &images, 1).0, found(&segmenter, &images, 3).0);
    for ((one, several), wider) in one.iter().zip(&several).zip([0, 40].into_iter().cycle()) {
        assert_eq!(one.size, ImageSize { width: 32 + wider, height: 32 });
        let same = one.labels.iter().zip(&several.labels).filter(|(one, several)| one == several).count();
        // Where two classes are all but equal, the rounding of sums may decide.
        assert!(same as f64 >= 0.999 * one.labels.len() as f64, "{same} of {}", one.labels.len());
    }
}

#[test]
fn a_detector_measures_each_image_as_if_it_were_alone() {
    let (_folder, images, detector) = loaded(&tiny::detection(BatchNormMode::Trained));
    let files = Files(images);
    let load = |index| {
        let sample = files.load(index, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
        files.batch(&[index], vec![sample]).unwrap()
    };
    let tensors: Vec<Tensor> = (0..files.len()).map(load).collect();
    let together = detector.network.detect_each(&tensors).unwrap();
    assert_eq!(together.len(), tensors.len());
    for (image, together) in tensors.iter().zip(&together) {
        let alone = &detector.network.detect(std::slice::from_ref(image)).unwrap()[0];
        assert!(together.boxes.allclose(&alone.boxes, 1e-4, 1e-3, false));
        assert!(together.scores.allclose(&alone.scores, 1e-4, 1e-5, false));
        assert!(together.labels.eq_tensor(&alone.labels).all().to_kind(Kind::Int64).int64_value(&[]) == 1);
    }
}

#[test]
fn the_first_image_that_cannot_be_read_ends_it_with_its_name() {
    let (folder, images, detector) = loaded(&tiny::detection(BatchNormMode::Trained));
    // Sound in its header, cut in its pixels.
    let bytes = std::fs::read(&images[2]).unwrap();
    std::fs::write(&images[2], &bytes[..bytes.len() / 2]).unwrap();
    let all: Vec<_> = detector.found(&images, 1).unwrap().collect();
    assert_eq!(all.len(), 2);
    let error = all[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("2.png"), "{error}");
    std::fs::write(&images[2], b"no image").unwrap();
    assert!(detector.found(&images, 1).err().unwrap().to_string().contains("2.png"));
    drop(folder);
}
