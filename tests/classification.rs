//! Image classification from folders to accuracy, and what becomes of a classifier's weights: in a detector, under another
//! stem, with statistics computed anew.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::grammar::Grammar;
use spnas::arch::serial::{BlockKind, SerialBackbone, Stem};
use spnas::data::augment::{CropRange, EvaluationView, TrainingView, View};
use spnas::data::classification::{ClassificationLoader, ClassificationSource};
use spnas::data::colour::ColourJitter;
use spnas::data::image_file::{ImageCache, Resize};
use spnas::data::image_folder::{self, ImageFolders};
use spnas::data::loader::{Loader, LoaderConfig};
use spnas::nn::{Classes, Classifier, ClassifierConfig, FasterRcnn, FasterRcnnConfig, NnError};
use spnas::train::Schedule;
use spnas::train::fit::{self, FitConfig};
use spnas::train::optimizer::{Optimizer, OptimizerConfig};
use spnas::train::recalibrate::recalibrate;
use spnas::weights::safetensors::{Strictness, load};
use spnas::weights::{Tensors, inherit, inherit_with_new_stem, replace_body};
use spnas::workers::{Classification, Part, Task, WorkError};
use spnas_actors::TrialError;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const SIZE: u32 = 32;

const SGD: OptimizerConfig = OptimizerConfig::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 1e-4, nesterov: false };

/// Two classes, dark and light on one side, with some noise: `per_class` images each of `width` × 40 pixels.
fn write_folders(root: &Path, per_class: u32) {
    for (split, seed) in [("train", 1), ("val", 2)] {
        for class in ["left", "right"] {
            let folder = root.join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..per_class {
                let width = 40 + number % 7;
                let image = image::RgbImage::from_fn(width, 40, |x, y| {
                    let noise = (x * 31 + y * 17 + number * 101 + seed * 7919) % 60;
                    let light = (x < width / 2) == (class == "left");
                    image::Rgb([(if light { 190 } else { 10 } + noise) as u8; 3])
                });
                image.save(folder.join(format!("{number:03}.png"))).unwrap();
            }
        }
    }
}

fn training_view(flip: f64) -> View {
    let jitter = ColourJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2 };
    View::Training(TrainingView {
        size: SIZE,
        crop: CropRange { area: (0.6, 1.0), ..CropRange::default() },
        flip,
        jitter,
    })
}

fn loader(images: &Arc<image_folder::ImageFolder>, view: View, config: LoaderConfig) -> ClassificationLoader {
    Loader::new(Arc::new(ClassificationSource::new(images.clone(), view).unwrap()), config).unwrap()
}

fn arch(code: &str, stem: Stem) -> SerialBackbone {
    let sequence = Grammar::Vega.parse(code).unwrap();
    SerialBackbone { sequence, block: BlockKind::Basic, stem, base_width: 8 }
}

fn classifier(arch: &SerialBackbone, seed: u64) -> (VarStore, Classifier) {
    tch::set_num_threads(1);
    let store = VarStore::new(Device::Cpu);
    let config = ClassifierConfig { num_classes: 2, ..ClassifierConfig::default() };
    let model =
        Classifier::new(store.root(), &arch.clone().into(), &config, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    (store, model)
}

fn tensors(store: &VarStore) -> Tensors {
    store.variables().into_iter().map(|(name, of)| (name, of.detach().copy())).collect()
}

#[test]
fn batches_are_normalised_squares_with_their_labels_and_repeat() {
    let folder = tempfile::tempdir().unwrap();
    write_folders(folder.path(), 5);
    let ImageFolders { train, val } = image_folder::read(folder.path()).unwrap();
    let middle = loader(&val, View::Evaluation(EvaluationView::of_size(SIZE)), LoaderConfig::evaluation(4));
    let batches: Vec<_> = middle.epoch(0).map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.images.size()[0]).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(batches[0].images.size()[1..], [3, 32, 32]);
    let labels: Vec<i64> = batches.iter().flat_map(|batch| Vec::<i64>::try_from(&batch.labels).unwrap()).collect();
    assert_eq!(labels, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    // "left" is lighter on its left.
    let first = batches[0].images.get(0).get(0);
    let half = |start: i64| first.slice(1, start, start + 16, 1).mean(Kind::Float).double_value(&[]);
    assert!(half(0) > 1.0 && half(16) < -1.0);

    let random = |threads, seed, epoch| -> Vec<f64> {
        let config = LoaderConfig { threads, ..LoaderConfig::training(3, seed) };
        let loader = loader(&train, training_view(0.5), config);
        loader.epoch(epoch).map(|batch| batch.unwrap().images.sum(Kind::Double).double_value(&[])).collect()
    };
    assert_eq!(random(1, 4, 0), random(2, 4, 0), "the number of threads makes no difference");
    assert_ne!(random(1, 4, 0), random(1, 5, 0));
    assert_ne!(random(1, 4, 0), random(1, 4, 1));
}

#[test]
fn decoded_images_are_kept_within_a_bound_and_make_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    write_folders(folder.path(), 5);
    let ImageFolders { train, .. } = image_folder::read(folder.path()).unwrap();
    let sums = |cache: Option<&Arc<ImageCache>>| -> Vec<f64> {
        let source = ClassificationSource::new(train.clone(), training_view(0.5)).unwrap();
        let source = match cache {
            Some(cache) => source.cached(cache.clone()),
            None => source,
        };
        let loader = Loader::new(Arc::new(source), LoaderConfig::training(3, 9)).unwrap();
        let epochs = (0..3).flat_map(|number| loader.epoch(number));
        epochs.map(|batch| batch.unwrap().images.sum(Kind::Double).double_value(&[])).collect()
    };
    let expected = sums(None);
    // Ten images of 40 to 44 by 40 pixels: room for all, for three, for none.
    for (bound, kept) in [(1 << 20, 10), (3 * 44 * 40 * 3, 3), (0, 0)] {
        let cache = Arc::new(ImageCache::new(Resize::Original, bound).unwrap());
        assert_eq!(sums(Some(&cache)), expected, "{bound} bytes");
        let load = cache.load();
        assert_eq!(load.images, kept);
        assert!(load.bytes <= bound);
        // Three epochs of nine images each.
        assert_eq!(load.hits + load.misses, 27);
        assert!(load.misses >= 10 && (kept < 10 || load.misses == 10), "{load:?}");
    }
}

#[test]
fn an_unreadable_image_is_named_and_the_others_still_come() {
    let folder = tempfile::tempdir().unwrap();
    write_folders(folder.path(), 3);
    std::fs::write(folder.path().join("val/left/001.png"), b"no image").unwrap();
    let ImageFolders { val, .. } = image_folder::read(folder.path()).unwrap();
    let middle = loader(&val, View::Evaluation(EvaluationView::of_size(SIZE)), LoaderConfig::evaluation(1));
    let outcomes: Vec<_> = middle.epoch(0).collect();
    assert_eq!(outcomes.len(), 6);
    let error = outcomes[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("001.png"), "{error}");
    assert!(outcomes.iter().enumerate().all(|(at, outcome)| outcome.is_ok() == (at != 1)));
}

#[test]
fn a_classifier_learns_with_mixup_and_smoothing_and_the_same_seed_learns_the_same() {
    let folder = tempfile::tempdir().unwrap();
    write_folders(folder.path(), 16);
    let ImageFolders { train, val } = image_folder::read(folder.path()).unwrap();
    let training = loader(&train, training_view(0.0), LoaderConfig::training(8, 1));
    let middle = ClassificationSource::new(val, View::Evaluation(EvaluationView::of_size(SIZE))).unwrap();
    let middle = Part { source: Arc::new(middle), loader: LoaderConfig::evaluation(8) };
    let config = FitConfig {
        schedule: Schedule::constant(),
        clip_grad_norm: Some(10.0),
        micro_batches: 1,
        mixed_precision: false,
    };
    let task = Classification {
        config: ClassifierConfig { num_classes: 2, ..ClassifierConfig::default() },
        mixup: 0.1,
        label_smoothing: 0.1,
    };
    let run = || {
        let store = VarStore::new(Device::Cpu);
        let arch = arch("1-2-2", Stem::TwoThreeByThree).into();
        let network = task.build(&arch, store.root(), &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        let mut optimizer = Optimizer::new(SGD, store.variables());
        let mut losses = Vec::new();
        for number in 1..=6 {
            let mut rng = ChaCha8Rng::seed_from_u64(number.into());
            let epoch =
                fit::epoch(&network, &mut optimizer, &training, number, &config, &mut rng, &mut || Ok(())).unwrap();
            assert_eq!(epoch.steps, 4);
            losses.push(epoch.total());
        }
        let metrics = task.measure(&network, &middle, None, &mut || Ok(())).unwrap();
        (losses, metrics, network)
    };
    let (losses, metrics, network) = run();
    assert!(metrics["accuracy"].get() > 90.0, "{metrics:?}, losses {losses:?}");
    assert_eq!(metrics["accuracy_top5"].get(), 100.0, "five of two classes");
    assert!(losses[5] < losses[0]);
    let (again, same, _) = run();
    assert_eq!((again, same), (losses, metrics));
    let stopped = task.measure(&network, &middle, None, &mut || Err(TrialError::Interrupted));
    assert!(matches!(stopped, Err(WorkError::Trial(TrialError::Interrupted))));
}

#[test]
fn a_body_goes_from_a_detector_to_a_classifier_and_back() {
    let arch = arch("11-2-2-2", Stem::SevenBySeven);
    let store = VarStore::new(Device::Cpu);
    let config = FasterRcnnConfig { num_classes: 3, fpn_channels: 8, ..FasterRcnnConfig::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let _detector = FasterRcnn::new(store.root(), &arch.clone().into(), &config, &mut rng).unwrap();
    let detector = tensors(&store);

    let (classifier_store, model) = classifier(&arch, 2);
    let report = load(&classifier_store, &detector, Strictness::Partial).unwrap();
    assert_eq!(report.missing, ["fc.bias", "fc.weight"]);
    assert!(report.wrong_shape.is_empty());
    let body = "backbone.body.layer3.0.conv1.weight";
    assert_eq!(tensors(&classifier_store)[body], detector[body]);

    // A step changes every tensor of the body.
    let images = Tensor::arange(2 * 3 * 64 * 64, (Kind::Float, Device::Cpu)).sin().view((2, 3, 64, 64));
    let mut optimizer = Optimizer::new(SGD, classifier_store.variables());
    model.loss(&images, Classes::Hard(&Tensor::from_slice(&[0i64, 1])), 0.0).unwrap().backward();
    optimizer.step(1.0).unwrap();
    let trained = tensors(&classifier_store);
    let back = replace_body(&detector, &trained).unwrap();
    assert_eq!(back.keys().collect::<Vec<_>>(), detector.keys().collect::<Vec<_>>());
    for (name, tensor) in &back {
        let expected = if name.starts_with("backbone.body.") { &trained[name] } else { &detector[name] };
        assert_eq!(tensor, expected, "{name}");
        assert_eq!(tensor != &detector[name], name.starts_with("backbone.body."), "{name}");
    }
    load(&store, &back, Strictness::Strict).unwrap();
}

#[test]
fn a_swapped_stem_is_new_and_everything_else_is_kept() {
    let (old, new) = (arch("11-2-2", Stem::SevenBySeven), arch("11-2-2", Stem::TwoThreeByThree));
    for (from, to, dropped, fresh) in [(&old, &new, 5, 10), (&new, &old, 10, 5)] {
        let parent = tensors(&classifier(from, 1).0);
        let (store, _) = classifier(to, 2);
        let drawn = tensors(&store);
        let refused = inherit(&from.clone().into(), &parent, &to.clone().into(), &store).unwrap_err().to_string();
        assert!(refused.contains("stem"), "{refused}");
        let inherited = inherit_with_new_stem(&from.clone().into(), &parent, &to.clone().into(), &store).unwrap();
        assert_eq!((inherited.dropped.len(), inherited.fresh), (dropped, fresh));
        assert_eq!((inherited.kept, inherited.widened, inherited.narrowed), (drawn.len() - fresh, 0, 0));
        let is_stem = |name: &str| !name.contains("layer") && name.starts_with("backbone.body.");
        assert!(inherited.dropped.iter().all(|name| is_stem(name)));
        for (name, tensor) in tensors(&store) {
            let expected = if is_stem(&name) { &drawn[&name] } else { &parent[&name] };
            assert_eq!(&tensor, expected, "{name}");
        }
    }
    // The same stem is inherited as ever.
    let (parent, (store, _)) = (tensors(&classifier(&old, 1).0), classifier(&old, 2));
    let inherited = inherit_with_new_stem(&old.clone().into(), &parent, &old.clone().into(), &store).unwrap();
    assert_eq!((inherited.fresh, inherited.dropped.len()), (0, 0));
}

/// Images of a mean and spread that is theirs alone.
fn observed(number: i64) -> Tensor {
    let place = Tensor::arange(4 * 3 * 32 * 32, (Kind::Float, Device::Cpu)).view((4, 3, 32, 32));
    ((place * 0.7 + number).sin() * (1.0 + 0.3 * number as f64)) + 0.5 * number as f64
}

#[test]
fn recalibrated_statistics_are_those_of_all_passes_together() {
    let (store, model) = classifier(&arch("1-2", Stem::TwoThreeByThree), 1);
    // Nothing of what was there remains, not even what is no number.
    let mut bad = store.variables()["backbone.body.layer2.0.bn1.running_mean"].shallow_clone();
    let _filled = tch::no_grad(|| bad.fill_(f64::NAN));
    let passes = 5;
    let done = recalibrate(&store, 0.1, (0..passes).map(|number| model.observe(&observed(number)))).unwrap();
    assert_eq!((done.layers, done.untouched, done.passes), (7, 0, 5));

    // The first normalisation's input is a plain convolution of the images, so its statistics are known.
    let variables = store.variables();
    let images = Tensor::cat(&(0..passes).map(observed).collect::<Vec<_>>(), 0);
    let maps = images.conv2d(&variables["backbone.body.conv1.weight"], None::<&Tensor>, [2, 2], [1, 1], [1, 1], 1);
    let maps = maps.to_kind(Kind::Double).transpose(0, 1).flatten(1, -1);
    let (mean, variance) =
        (maps.mean_dim([1i64].as_slice(), false, Kind::Double), maps.var_dim([1i64].as_slice(), false, false));
    assert!(variables["backbone.body.bn1.running_mean"].to_kind(Kind::Double).allclose(&mean, 1e-4, 1e-5, false));
    // Each batch's variance is the unbiased one: 1/1023 more.
    assert!(variables["backbone.body.bn1.running_var"].to_kind(Kind::Double).allclose(&variance, 2e-3, 1e-5, false));
    assert!(variables.values().all(|of| of.isfinite().all().int64_value(&[]) == 1));

    // What the network was like before has no influence, nor has the momentum.
    let again = tensors(&store);
    recalibrate(&store, 0.1, (0..passes).map(|number| model.observe(&observed(number)))).unwrap();
    assert!(tensors(&store).iter().all(|(name, of)| of.allclose(&again[name], 1e-4, 1e-5, false)));
}

#[test]
fn a_failed_or_empty_recalibration_leaves_everything_as_it_was() {
    let (store, model) = classifier(&arch("1-2", Stem::SevenBySeven), 1);
    let before = tensors(&store);
    let pass = |number| {
        if number < 2 { model.observe(&observed(number)) } else { Err(NnError::Architecture("broken".to_owned())) }
    };
    assert!(recalibrate(&store, 0.1, (0..3).map(pass)).is_err());
    assert_eq!(tensors(&store), before);
    let done = recalibrate::<NnError>(&store, 0.1, []).unwrap();
    assert_eq!((done.layers, done.passes), (0, 0));
    assert_eq!(tensors(&store), before);
}
