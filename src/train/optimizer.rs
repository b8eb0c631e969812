//! Optimisers over named tensors: SGD with momentum, Adam and AdamW. Written here because libtorch's own, as its bindings
//! expose them, cannot save their state, and a trial must go on from a checkpoint as if it had never stopped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

/// Which optimiser, and how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum and L2 decay, as in PyTorch (no dampening).
    Sgd {
        /// Base learning rate.
        lr: f64,
        /// Momentum.
        momentum: f64,
        /// L2 penalty, added to the gradient.
        weight_decay: f64,
        /// Nesterov's form of the momentum.
        nesterov: bool,
    },
    /// Adam (Kingma & Ba 2015, alg. 1); `decoupled` is AdamW (Loshchilov & Hutter 2019, alg. 2).
    Adam {
        /// Base learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the denominator.
        eps: f64,
        /// Weight decay: an L2 penalty on the gradient, or where `decoupled` a decay of the weight itself.
        weight_decay: f64,
        /// AdamW rather than Adam.
        decoupled: bool,
    },
}

impl OptimizerConfig {
    /// The base learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Sgd { lr, .. } | Self::Adam { lr, .. } => *lr,
        }
    }
}

/// What went wrong with an optimiser.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Tensor(#[from] TchError),
    /// A checkpoint lacks a part of the state.
    #[error("the checkpoint has no optimiser state `{0}`: it was written by another optimiser or for another network")]
    Missing(String),
}

/// An optimiser and its state.
pub struct Optimizer {
    config: OptimizerConfig,
    parameters: Vec<Parameter>,
    /// Optimiser steps done.
    steps: u64,
}

struct Parameter {
    name: String,
    /// Shares its storage with the network's variable.
    value: Tensor,
    /// SGD: momentum. Adam: the first moment. Empty until the first step.
    first: Option<Tensor>,
    /// Adam: the second moment.
    second: Option<Tensor>,
}

/// Names of state tensors in a checkpoint: `optimizer.first.<parameter>` and `optimizer.second.<parameter>`.
const FIRST: &str = "optimizer.first.";
const SECOND: &str = "optimizer.second.";

impl Optimizer {
    /// An optimiser of these variables, those that need no gradient left out.
    pub fn new(config: OptimizerConfig, variables: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        let mut parameters: Vec<Parameter> = variables
            .into_iter()
            .filter(|(_, value)| value.requires_grad())
            .map(|(name, value)| Parameter { name, value, first: None, second: None })
            .collect();
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        Self { config, parameters, steps: 0 }
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How many numbers it trains.
    pub fn trained_parameters(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.value.numel()).sum()
    }

    /// Sets all gradients to nothing.
    pub fn zero_grad(&mut self) {
        for parameter in &mut self.parameters {
            parameter.value.zero_grad();
        }
    }

    /// The Euclidean norm of all gradients together, `[]`, on their device.
    ///
    /// # Errors
    /// Where libtorch refuses.
    pub fn grad_norm(&self) -> Result<Tensor, OptimizerError> {
        let norms: Vec<Tensor> = self.grads().map(|grad| grad.f_norm()).collect::<Result<_, _>>()?;
        if norms.is_empty() {
            return Ok(Tensor::from(0.0_f32));
        }
        Ok(Tensor::f_stack(&norms, 0)?.f_norm()?)
    }

    /// Scales all gradients so that their common norm is at most `max_norm` (Pascanu et al. 2013), without waiting for the device.
    ///
    /// # Errors
    /// Where libtorch refuses.
    pub fn clip_grad_norm(&mut self, max_norm: f64) -> Result<(), OptimizerError> {
        let scale = (max_norm / (self.grad_norm()? + 1e-6)).f_clamp_max(1.0)?;
        for mut grad in self.grads() {
            let _ = grad.f_mul_(&scale)?;
        }
        Ok(())
    }

    fn grads(&self) -> impl Iterator<Item = Tensor> {
        self.parameters.iter().map(|parameter| parameter.value.grad()).filter(Tensor::defined)
    }

    /// One step at `factor` times the base rate.
    ///
    /// # Errors
    /// Where libtorch refuses.
    pub fn step(&mut self, factor: f64) -> Result<(), OptimizerError> {
        self.steps += 1;
        tch::no_grad(|| {
            for parameter in &mut self.parameters {
                let grad = parameter.value.grad();
                if grad.defined() {
                    parameter.step(&self.config, factor, self.steps, grad)?;
                }
            }
            Ok(())
        })
    }

    /// The state, by the names that a checkpoint gives it.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for Parameter { name, first, second, .. } in &self.parameters {
            state.extend(first.iter().map(|tensor| (format!("{FIRST}{name}"), tensor.shallow_clone())));
            state.extend(second.iter().map(|tensor| (format!("{SECOND}{name}"), tensor.shallow_clone())));
        }
        state
    }

    /// Takes up the state of a checkpoint after `steps` steps.
    ///
    /// # Errors
    /// [`OptimizerError::Missing`] where a part of it is not there.
    pub fn restore(&mut self, steps: u64, state: &BTreeMap<String, Tensor>) -> Result<(), OptimizerError> {
        self.steps = steps;
        if steps == 0 {
            return Ok(());
        }
        for parameter in &mut self.parameters {
            let read = |prefix: &str| {
                let name = format!("{prefix}{}", parameter.name);
                let tensor = state.get(&name).ok_or_else(|| OptimizerError::Missing(name.clone()))?;
                Ok::<_, OptimizerError>(tensor.f_to_device(parameter.value.device())?.f_detach()?)
            };
            let (uses_first, uses_second) = match self.config {
                OptimizerConfig::Sgd { momentum, .. } => (momentum != 0.0, false),
                OptimizerConfig::Adam { .. } => (true, true),
            };
            // A parameter that has never had a gradient has no state.
            if uses_first && state.contains_key(&format!("{FIRST}{}", parameter.name)) {
                parameter.first = Some(read(FIRST)?);
                parameter.second = if uses_second { Some(read(SECOND)?) } else { None };
            }
        }
        Ok(())
    }
}

impl Parameter {
    fn step(&mut self, config: &OptimizerConfig, factor: f64, steps: u64, grad: Tensor) -> Result<(), OptimizerError> {
        match *config {
            OptimizerConfig::Sgd { lr, momentum, weight_decay, nesterov } => {
                let grad = if weight_decay == 0.0 { grad } else { grad + &self.value * weight_decay };
                let update = if momentum == 0.0 {
                    grad
                } else {
                    let velocity = match self.first.take() {
                        Some(velocity) => velocity * momentum + &grad,
                        None => grad.copy(),
                    };
                    let update = if nesterov { &grad + &velocity * momentum } else { velocity.shallow_clone() };
                    self.first = Some(velocity);
                    update
                };
                let _ = self.value.f_sub_(&(update * (lr * factor)))?;
            }
            OptimizerConfig::Adam { lr, beta1, beta2, eps, weight_decay, decoupled } => {
                let lr = lr * factor;
                let grad = if decoupled || weight_decay == 0.0 { grad } else { grad + &self.value * weight_decay };
                if decoupled && weight_decay != 0.0 {
                    let _ = self.value.f_mul_scalar_(1.0 - lr * weight_decay)?;
                }
                let zeros = || self.value.f_zeros_like();
                let mut first = self.first.take().map_or_else(zeros, Ok)?;
                let mut second = self.second.take().map_or_else(zeros, Ok)?;
                let _ = first.f_lerp_(&grad, 1.0 - beta1)?;
                let _ = second.f_mul_scalar_(beta2)?.f_addcmul_(&grad, &(&grad * (1.0 - beta2)))?;
                let steps = i32::try_from(steps).unwrap_or(i32::MAX);
                let (bias1, bias2) = (1.0 - beta1.powi(steps), 1.0 - beta2.powi(steps));
                let denominator = second.f_sqrt()? / bias2.sqrt() + eps;
                let _ = self.value.f_addcdiv_(&(&first * (-lr / bias1)), &denominator)?;
                (self.first, self.second) = (Some(first), Some(second));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    const ADAMW: OptimizerConfig =
        OptimizerConfig::Adam { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decoupled: true };
    const ADAM: OptimizerConfig =
        OptimizerConfig::Adam { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decoupled: false };
    const SGD: OptimizerConfig = OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: false };
    const NESTEROV: OptimizerConfig =
        OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: true };

    /// Steps on `sum((x - [3, -1])^2 * [1, 10])` from `[1, 1]`.
    fn run(optimizer: &mut Optimizer, value: &Tensor, steps: u32) -> Vec<f32> {
        for _ in 0..steps {
            optimizer.zero_grad();
            let target = Tensor::from_slice(&[3.0_f32, -1.0]);
            let scale = Tensor::from_slice(&[1.0_f32, 10.0]);
            ((value - target).square() * scale).sum(Kind::Float).backward();
            optimizer.step(1.0).unwrap();
        }
        Vec::try_from(value).unwrap()
    }

    fn start() -> Tensor {
        Tensor::from_slice(&[1.0_f32, 1.0]).set_requires_grad(true)
    }

    fn of(config: OptimizerConfig, value: &Tensor) -> Optimizer {
        Optimizer::new(config, [("x".to_owned(), value.shallow_clone())])
    }

    #[test]
    fn five_steps_equal_pytorchs() {
        // tests/reference/make_optimizer_golden.py, torch 2.13.0.
        for (config, expected) in [
            (ADAMW, [1.491_100_3_f32, 0.498_996_8]),
            (ADAM, [1.497_015_2, 0.502_956_6]),
            (SGD, [4.144_271, -2.891_100_6]),
            (NESTEROV, [3.811_580_4, -152.186_08]),
        ] {
            let value = start();
            let found = run(&mut of(config, &value), &value, 5);
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
                    "{config:?}: {found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn a_restored_optimizer_goes_on_as_if_it_had_never_stopped() {
        for config in [ADAMW, SGD] {
            let straight = start();
            let expected = run(&mut of(config, &straight), &straight, 6);
            let value = start();
            let mut first = of(config, &value);
            run(&mut first, &value, 3);
            let mut second = of(config, &value);
            second.restore(first.steps(), &first.state()).unwrap();
            assert_eq!(run(&mut second, &value, 3), expected);
        }
    }

    #[test]
    fn clipping_scales_all_gradients_by_one_factor() {
        let value = start();
        let mut optimizer = of(SGD, &value);
        (&value * Tensor::from_slice(&[3.0_f32, 4.0])).sum(Kind::Float).backward();
        optimizer.clip_grad_norm(1.0).unwrap();
        let grad: Vec<f32> = Vec::try_from(value.grad()).unwrap();
        assert!((grad[0] - 0.6).abs() < 1e-5 && (grad[1] - 0.8).abs() < 1e-5, "{grad:?}");
    }
}
