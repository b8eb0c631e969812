//! Running statistics of batch normalisation, computed anew. In: a network's variable store and passes over images in
//! training mode. Out: the store with the statistics of just these passes.
//!
//! What a classifier's running statistics are worth in a detector: they are those of small, cropped, mixed images, and a
//! detector sees larger whole ones. A detector whose normalisation is *trained* normalises by its own batches from the
//! first step on and forgets the classifier's statistics at `(1 - momentum)^steps`: below a thousandth after 66 steps at
//! 0.1. It needs nothing, unless it is evaluated before. One whose normalisation is *frozen* keeps what it is given for
//! ever: it is recalibrated on the detector's images before its training begins (`workers::recalibrate`).
//!
//! The estimate is "precise BN" (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", sec. 3): mean and variance over
//! all batches together, `μ = E[μ_b]` and `σ² = E[σ_b² + μ_b²] - μ²`, each batch counting alike. It needs no layer of its
//! own: what a batch's statistics were follows from the running ones before and after it.

use tch::nn::VarStore;
use tch::{Kind, TchError, Tensor};

/// What was computed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recalibrated {
    /// Layers with new statistics.
    pub layers: usize,
    /// Layers that kept theirs, because no pass updated them: frozen ones, and such as saw one value a channel only.
    pub untouched: usize,
    /// Passes.
    pub passes: u64,
}

/// One batch normalisation, and what its batches were like.
struct Layer {
    mean: Tensor,
    variance: Tensor,
    /// Mean and variance to go back to.
    original: (Tensor, Tensor),
    /// Sums over batches in double precision, of means and of second moments.
    sums: Option<(Tensor, Tensor)>,
    batches: u64,
}

/// Computes the running statistics of all batch normalisations of a network anew. Each item of `passes`, when it is asked
/// for, runs the network once in training mode without a graph (for instance `Classifier::observe`); every
/// normalisation may run only once a pass, so a backbone whose branches share their layers cannot be recalibrated.
/// `momentum` is that of the network's normalisations, above 0. Sixteen passes or more of a training batch each are
/// enough.
///
/// # Errors
/// What a pass fails with, and libtorch's; the statistics are then those from before.
pub fn recalibrate<E: From<TchError>>(
    store: &VarStore,
    momentum: f64,
    passes: impl IntoIterator<Item = Result<(), E>>,
) -> Result<Recalibrated, E> {
    tch::no_grad(|| {
        let mut layers = layers_of(store)?;
        let ended = gather(&mut layers, momentum, passes);
        for layer in &mut layers {
            layer.finish(ended.is_ok())?;
        }
        let touched = layers.iter().filter(|layer| layer.batches > 0).count();
        Ok(Recalibrated { layers: touched, untouched: layers.len() - touched, passes: ended? })
    })
}

fn layers_of(store: &VarStore) -> Result<Vec<Layer>, TchError> {
    let mut variables = store.variables();
    let means: Vec<String> = variables.keys().filter(|name| name.ends_with(".running_mean")).cloned().collect();
    let mut layers = Vec::with_capacity(means.len());
    for name in means {
        let variance = name.replace(".running_mean", ".running_var");
        if let (Some(mean), Some(variance)) = (variables.remove(&name), variables.remove(&variance)) {
            let original = (mean.copy(), variance.copy());
            layers.push(Layer { mean, variance, original, sums: None, batches: 0 });
        }
    }
    Ok(layers)
}

fn gather<E: From<TchError>>(
    layers: &mut [Layer],
    momentum: f64,
    passes: impl IntoIterator<Item = Result<(), E>>,
) -> Result<u64, E> {
    let mut passes = passes.into_iter();
    let mut count = 0;
    loop {
        let before = layers.iter_mut().map(Layer::plain).collect::<Result<Vec<_>, TchError>>()?;
        match passes.next() {
            Some(pass) => pass?,
            None => return Ok(count),
        }
        count += 1;
        for (layer, before) in layers.iter_mut().zip(&before) {
            layer.add(before, momentum)?;
        }
    }
}

impl Layer {
    /// Sets mean 0 and variance 1, so that little is lost when they are taken off again. What they are matters to no
    /// layer that takes batch statistics; one that does not gets its original statistics back.
    fn plain(&mut self) -> Result<(Tensor, Tensor), TchError> {
        let usable = self.mean.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1;
        if self.batches > 0 || !usable {
            let _filled = (self.mean.f_zero_()?, self.variance.f_fill_(1.0)?);
        }
        Ok((self.mean.copy(), self.variance.copy()))
    }

    /// Counts the batch of the last pass, if this layer had one.
    fn add(&mut self, before: &(Tensor, Tensor), momentum: f64) -> Result<(), TchError> {
        if self.mean.f_equal(&before.0)? && self.variance.f_equal(&before.1)? {
            return Ok(());
        }
        let of_batch = |after: &Tensor, before: &Tensor| {
            let before = before.f_to_kind(Kind::Double)?.f_mul_scalar(1.0 - momentum)?;
            after.f_to_kind(Kind::Double)?.f_sub(&before)?.f_div_scalar(momentum)
        };
        let (mean, variance) = (of_batch(&self.mean, &before.0)?, of_batch(&self.variance, &before.1)?);
        let moment = variance.f_add(&mean.f_square()?)?;
        self.sums = Some(match &self.sums {
            None => (mean, moment),
            Some((means, moments)) => (means.f_add(&mean)?, moments.f_add(&moment)?),
        });
        self.batches += 1;
        Ok(())
    }

    /// Writes the new statistics, or those from before.
    fn finish(&mut self, complete: bool) -> Result<(), TchError> {
        let (mean, variance) = match &self.sums {
            Some((means, moments)) if complete => {
                let mean = means.f_div_scalar(self.batches as f64)?;
                let variance = moments.f_div_scalar(self.batches as f64)?.f_sub(&mean.f_square()?)?;
                (mean, variance.f_clamp_min(0.0)?)
            }
            _ => (self.original.0.shallow_clone(), self.original.1.shallow_clone()),
        };
        self.mean.f_copy_(&mean)?;
        self.variance.f_copy_(&variance)
    }
}
