//! Initial parameters from a seeded stream on the host. In: a [`ChaCha8Rng`] and a shape. Out: a tensor registered in
//! the variable store, on its device. The distributions are torchvision's; the stream is ours.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::nn::Path;
use tch::{Kind, Tensor};

use super::Result;

/// How the elements of one new parameter are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// Every element has this value.
    Constant(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
    /// Uniform over `-bound..bound`.
    Uniform {
        /// Half the width.
        bound: f64,
    },
}

impl Distribution {
    /// Kaiming normal by fan-out for a ReLU (He et al. 2015, eq. 14): what torchvision's ResNets use for convolutions
    /// of shape `[out, in / groups, k, k]`. Fan-out counts `out × k²`, whatever the groups, as PyTorch does.
    pub fn kaiming_normal_fan_out(shape: &[i64]) -> Self {
        let fan_out = shape.iter().take(1).chain(shape.iter().skip(2)).product::<i64>().max(1);
        Distribution::Normal { deviation: (2.0 / fan_out as f64).sqrt() }
    }

    /// Kaiming uniform by fan-in with leaky slope `a`: `a = 1` in torchvision's FPN, `√5` in PyTorch's linear layers.
    pub fn kaiming_uniform_fan_in(shape: &[i64], a: f64) -> Self {
        let fan_in = shape.iter().skip(1).product::<i64>().max(1);
        Distribution::Uniform { bound: (6.0 / ((1.0 + a * a) * fan_in as f64)).sqrt() }
    }
}

/// Draws parameters, one after another, from one stream.
#[derive(Debug)]
pub struct Initialiser<'r> {
    rng: &'r mut ChaCha8Rng,
}

impl<'r> Initialiser<'r> {
    /// Draws from this stream.
    pub fn new(rng: &'r mut ChaCha8Rng) -> Self {
        Self { rng }
    }

    /// A tensor of this shape on the host.
    pub fn draw(&mut self, shape: &[i64], distribution: Distribution) -> Result<Tensor> {
        let values = match distribution {
            Distribution::Constant(value) => {
                return Ok(Tensor::f_full(shape, value, (Kind::Float, tch::Device::Cpu))?);
            }
            Distribution::Normal { deviation } => self.normals(count(shape), deviation),
            Distribution::Uniform { bound } => {
                (0..count(shape)).map(|_| ((2.0 * self.rng.random::<f64>() - 1.0) * bound) as f32).collect()
            }
        };
        Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
    }

    /// A trainable parameter `name` under `path`.
    pub fn parameter(&mut self, path: &Path, name: &str, shape: &[i64], distribution: Distribution) -> Result<Tensor> {
        let values = self.draw(shape, distribution)?.f_to_device(path.device())?;
        Ok(path.add(name, values, true))
    }

    /// A tensor that is saved with the parameters but never trained.
    pub fn buffer(&mut self, path: &Path, name: &str, shape: &[i64], value: f64) -> Result<Tensor> {
        let values = self.draw(shape, Distribution::Constant(value))?.f_to_device(path.device())?;
        Ok(path.add(name, values, false))
    }

    /// Box and Muller's transform: two normals from two uniforms.
    fn normals(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let radius = (-2.0 * (1.0 - self.rng.random::<f64>()).ln()).sqrt() * deviation;
            let (sine, cosine) = (std::f64::consts::TAU * self.rng.random::<f64>()).sin_cos();
            values.push((radius * cosine) as f32);
            values.push((radius * sine) as f32);
        }
        values.truncate(count);
        values
    }
}

fn count(shape: &[i64]) -> usize {
    shape.iter().product::<i64>().max(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn normals_have_the_asked_deviation_and_repeat_for_a_seed() {
        let draw = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            Initialiser::new(&mut rng)
                .draw(&[64, 16, 3, 3], Distribution::kaiming_normal_fan_out(&[64, 16, 3, 3]))
                .unwrap()
        };
        let (first, again, other) = (draw(3), draw(3), draw(4));
        assert_eq!(first, again);
        assert_ne!(first, other);
        let expected = (2.0_f64 / (64.0 * 9.0)).sqrt();
        assert!((first.std(true).double_value(&[]) / expected - 1.0).abs() < 0.03);
        assert!(first.mean(Kind::Float).double_value(&[]).abs() < 0.03 * expected * 10.0);
    }

    #[test]
    fn uniforms_stay_within_the_bound_and_reach_near_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shape = [10, 300];
        let distribution = Distribution::kaiming_uniform_fan_in(&shape, 5.0_f64.sqrt());
        let values = Initialiser::new(&mut rng).draw(&shape, distribution).unwrap();
        let bound = 1.0 / 300.0_f64.sqrt();
        let largest = values.abs().max().double_value(&[]);
        assert!(largest <= bound && largest > 0.99 * bound);
    }
}
