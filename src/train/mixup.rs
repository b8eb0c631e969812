//! Mixup (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"): a classifier trains on sums of two images and
//! of their labels. In: a batch on any device and a random stream on the host. Out: mixed images and shares of classes.

use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution as _};
use tch::{Kind, TchError, Tensor};

use crate::data::classification::LabelledBatch;

/// How strongly images are mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixup {
    /// α of the symmetric Beta distribution.
    beta: Beta<f64>,
}

/// A mixed batch.
#[derive(Debug)]
pub struct MixedBatch {
    /// `[N, 3, H, W]`, as the images that went in.
    pub images: Tensor,
    /// `[N, classes]`, float; each row sums to 1.
    pub shares: Tensor,
}

impl Mixup {
    /// Mixes by λ from Beta(α, α): the smaller α, the more often one of both images dominates (the paper takes 0.1 to 0.4
    /// for ImageNet, sec. 3.1; Vega 0.1). `None` where α is not a positive number: no mixing.
    pub fn new(alpha: f64) -> Option<Self> {
        if !alpha.is_finite() {
            return None;
        }
        Some(Self { beta: Beta::new(alpha, alpha).ok()? })
    }

    /// Mixes each image of a batch with another one of it, all by one λ, as the paper does (sec. 2): λ × image
    /// + (1 - λ) × partner. Partners are a random permutation, so that an image may be its own.
    ///
    /// # Errors
    /// Those of libtorch, a label that is not below `classes` included.
    pub fn mix(self, batch: &LabelledBatch, classes: i64, rng: &mut ChaCha8Rng) -> Result<MixedBatch, TchError> {
        let lambda = self.beta.sample(rng).clamp(0.0, 1.0);
        let mut partners: Vec<i64> = (0..batch.labels.size1()?).collect();
        partners.shuffle(rng);
        let partners = Tensor::f_from_slice(&partners)?.f_to_device(batch.labels.device())?;
        let shares = batch.labels.f_one_hot(classes)?.f_to_kind(Kind::Float)?;
        let mixed = |values: &Tensor| -> Result<Tensor, TchError> {
            let partner = values.f_index_select(0, &partners)?;
            values.f_mul_scalar(lambda)?.f_add(&partner.f_mul_scalar(1.0 - lambda)?)
        };
        Ok(MixedBatch { images: mixed(&batch.images)?, shares: mixed(&shares)? })
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng as _;
    use tch::Device;

    use super::*;

    /// Image `i` has the value `i` everywhere and label `i`.
    fn batch(images: i64) -> LabelledBatch {
        let labels = Tensor::arange(images, (Kind::Int64, Device::Cpu));
        let pixels = labels.to_kind(Kind::Float).view((-1, 1, 1, 1)).expand([images, 3, 2, 2], false);
        LabelledBatch { images: pixels.contiguous(), labels }
    }

    #[test]
    fn images_and_labels_are_mixed_alike() {
        let mixup = Mixup::new(1.0).unwrap();
        for seed in 0..20 {
            let mixed = mixup.mix(&batch(5), 5, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
            // The mean label by the shares is the image's value.
            let means = mixed.shares.matmul(&Tensor::arange(5, (Kind::Float, Device::Cpu)));
            let values = mixed.images.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float);
            assert!(means.allclose(&values, 1e-5, 1e-5, false));
            let sums = mixed.shares.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            assert!(sums.allclose(&sums.ones_like(), 1e-5, 1e-6, false));
        }
    }

    #[test]
    fn a_seed_gives_the_same_mixture_and_alpha_its_spread() {
        let draw = |alpha: f64, seed: u64| {
            let mixed = Mixup::new(alpha).unwrap().mix(&batch(3), 3, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
            Vec::<f32>::try_from(mixed.shares.flatten(0, -1)).unwrap()
        };
        assert_eq!(draw(0.1, 1), draw(0.1, 1));
        assert_ne!(draw(0.5, 1), draw(0.5, 2));
        // Var λ = 1 / (4 (2α + 1)): 0.2083 at α = 0.1, 0.0119 at α = 10. A mixture keeps λ or 1 - λ as its largest share.
        for (alpha, variance) in [(0.1, 1.0 / 4.8), (10.0, 1.0 / 84.0)] {
            let beta = Mixup::new(alpha).unwrap().beta;
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            let squares = (0..20_000).map(|_| (beta.sample(&mut rng) - 0.5).powi(2)).sum::<f64>() / 20_000.0;
            assert!((squares / variance - 1.0).abs() < 0.05, "{alpha}: {squares}");
        }
    }

    #[test]
    fn an_alpha_of_zero_is_no_mixup() {
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Mixup::new(alpha), None, "{alpha}");
        }
    }
}
