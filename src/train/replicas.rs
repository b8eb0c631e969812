//! Data parallelism within the process: replicas of a network on further devices, each on a thread of its own. In: a batch
//! cut into parts. Out: the gradient of the whole batch in the main network, as if its parts had come one after another.
//!
//! ```text
//!        what training changes, parts of the batch            gradients, running statistics, losses
//!  main ───────────────────────────────────────────► replica ────────────────────────────────────────► main
//!  parts 0..a on its own thread                       parts a..b on its thread              in the order of the parts
//! ```
//!
//! What goes to another device and comes back is one tensor, cut up there: a network has hundreds of them, and a copy between
//! devices takes its time however short it is.
//!
//! Gradients are summed in one order, whichever replica ends first, so a seed gives the same training every time. Batch
//! normalisation is by each part, as with micro-batches and as torch's `DistributedDataParallel` has it without
//! synchronisation. The running statistics, which that takes from one replica alone, are here those of all parts one after
//! another: on n devices a network trains as on one with n micro-batches, to the rounding of sums.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use spnas_actors::panic_message;
use tch::nn::VarStore;
use tch::{Device, Kind, TchError, Tensor};

use super::fit::{self, EpochLosses, FitError, Learner, Part};

/// The end of the names of running statistics.
const STATISTICS: [&str; 2] = [".running_mean", ".running_var"];

/// The replicas of a network.
pub struct Replicas<L: Learner> {
    /// What training changes of the main network, by name.
    main: Changing,
    /// Share of a batch in the running statistics.
    momentum: f64,
    replicas: Vec<Replica<L>>,
}

/// What training changes of a network.
struct Changing {
    parameters: Vec<Tensor>,
    statistics: Vec<Tensor>,
}

/// A replica's thread.
struct Replica<L: Learner> {
    /// `None` once it is to end.
    jobs: Option<Sender<Job<L>>>,
    results: Receiver<Result<Done, FitError>>,
    thread: Option<JoinHandle<()>>,
}

/// A replica's share of a step.
struct Job<L: Learner> {
    /// The main network's, [flat].
    parameters: Tensor,
    /// The main network's before this step, [flat].
    statistics: Tensor,
    parts: Vec<Part<L::Batch>>,
    half: bool,
    step: u64,
}

/// What a replica found.
struct Done {
    losses: EpochLosses,
    /// Of all parameters, [flat]; zeros where no loss depends on one.
    gradients: Tensor,
    /// Whether a loss depends on it, for each parameter.
    reached: Vec<bool>,
    /// [Flat](flat).
    statistics: Tensor,
}

impl Changing {
    fn of(store: &VarStore) -> Self {
        let (mut parameters, mut statistics) = (Vec::new(), Vec::new());
        // By name, so that replicas have the same order.
        for (name, variable) in store.variables().into_iter().collect::<BTreeMap<_, _>>() {
            if variable.requires_grad() {
                parameters.push(variable);
            } else if STATISTICS.iter().any(|end| name.ends_with(end)) {
                statistics.push(variable);
            }
        }
        Self { parameters, statistics }
    }
}

impl<L: Learner> Replicas<L> {
    /// Makes `others`, networks as the main one on devices of their own, its replicas; each has `threads` threads of the
    /// processor. `momentum` is that of their batch normalisation. Call it when it is settled which variables of `main`
    /// are trained.
    ///
    /// # Errors
    /// Networks that differ, libtorch's, or a thread that cannot be had.
    pub fn new(main: &VarStore, momentum: f64, others: Vec<(VarStore, L)>, threads: usize) -> Result<Self, FitError> {
        let variables = main.variables();
        let mut replicas = Vec::with_capacity(others.len());
        for (number, (store, network)) in (1..).zip(others) {
            let mut own = store.variables();
            tch::no_grad(|| -> Result<(), FitError> {
                for (name, from) in &variables {
                    let to = own.get_mut(name).ok_or_else(|| unlike(name))?;
                    to.f_copy_(from)?;
                    let _same = to.set_requires_grad(from.requires_grad());
                }
                Ok(())
            })?;
            replicas.push(Replica::start(number, store, network, threads)?);
        }
        Ok(Self { main: Changing::of(main), momentum, replicas })
    }

    /// How many there are beside the main network.
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// The gradient of all parts, added to the main network's; their losses.
    pub(super) fn backward(
        &mut self,
        network: &L,
        parts: Vec<Part<L::Batch>>,
        (half, step): (bool, u64),
    ) -> Result<EpochLosses, FitError> {
        let each = parts.len().div_ceil(self.replicas.len() + 1).max(1);
        let mut parts = parts.into_iter();
        let mut own: Vec<_> = parts.by_ref().take(each).collect();
        // Copies: the main network's own forward pass changes its statistics.
        let parameters = flat(&self.main.parameters)?;
        let before = flat(&self.main.statistics)?;
        let mut asked = Vec::with_capacity(self.replicas.len());
        for replica in &self.replicas {
            let parts: Vec<_> = parts.by_ref().take(each).collect();
            if parts.is_empty() {
                break;
            }
            let (parameters, statistics) = (parameters.shallow_clone(), before.shallow_clone());
            asked.push((replica, parts.len()));
            replica.ask(Job { parameters, statistics, parts, half, step })?;
        }
        let mut losses = fit::backward_of(network, &mut own, half, step);
        // Each is waited for, even after a failure: none may be at work when the next step begins.
        let done: Vec<_> = asked.into_iter().map(|(replica, parts)| (parts, replica.answer())).collect();
        for (parts, done) in done {
            let (mut sum, done) = (losses?, done?);
            tch::no_grad(|| self.add(&before, &done, parts))?;
            sum.add(&done.losses, 1.0);
            losses = Ok(sum);
        }
        losses
    }

    /// Adds what a replica found on so many parts.
    fn add(&mut self, before: &Tensor, done: &Done, parts: usize) -> Result<(), FitError> {
        let device = self.main.parameters.first().map_or(before.device(), Tensor::device);
        let gradients = pieces(&done.gradients.f_to_device(device)?, &self.main.parameters)?;
        for ((parameter, gradient), _) in
            self.main.parameters.iter().zip(gradients).zip(&done.reached).filter(|(_, reached)| **reached)
        {
            let mut sum = parameter.f_grad()?;
            if sum.defined() {
                let _ = sum.f_add_(&gradient)?;
            } else {
                // The gradient of `parameter · gradient` is just that: there is no other way to set one.
                tch::with_grad(|| parameter.f_mul(&gradient)?.f_sum(parameter.kind())?.f_backward())?;
            }
        }
        // One part brings statistics s to a s + (1 - a) t with a = 1 - momentum and its own t; so does each after it.
        let kept = (1.0 - self.momentum).powi(i32::try_from(parts).unwrap_or(i32::MAX));
        let since = flat(&self.main.statistics)?.f_sub(before)?.f_mul_scalar(kept)?;
        let all = done.statistics.f_to_device(before.device())?.f_add(&since)?;
        Ok(fill(&self.main.statistics, &all)?)
    }
}

impl<L: Learner> Replica<L> {
    fn start(number: u32, store: VarStore, network: L, threads: usize) -> Result<Self, FitError> {
        let (jobs, inbox) = bounded(1);
        let (outbox, results) = bounded(1);
        let thread = std::thread::Builder::new().name(format!("replica-{number}")).spawn(move || {
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
            let own = Changing::of(&store);
            for job in inbox {
                let done = catch_unwind(AssertUnwindSafe(|| run(&network, &own, job)));
                let done = done.unwrap_or_else(|panic| Err(FitError::Replica(panic_message(panic.as_ref()))));
                if outbox.send(done).is_err() {
                    return;
                }
            }
        });
        let thread = thread.map_err(|why| FitError::Replica(format!("no thread for it: {why}")))?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread) })
    }

    fn ask(&self, job: Job<L>) -> Result<(), FitError> {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(gone()) }
    }

    fn answer(&self) -> Result<Done, FitError> {
        self.results.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl<L: Learner> Drop for Replica<L> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It catches panics itself; nothing is left to report.
            let _ended = thread.join();
        }
    }
}

/// A replica's share of a step, on its thread.
fn run<L: Learner>(network: &L, own: &Changing, mut job: Job<L>) -> Result<Done, FitError> {
    tch::no_grad(|| -> Result<(), TchError> {
        for (to, from) in [(&own.parameters, &job.parameters), (&own.statistics, &job.statistics)] {
            let Some(device) = to.first().map(Tensor::device) else { continue };
            fill(to, &from.f_to_device(device)?)?;
        }
        Ok(())
    })?;
    for parameter in &own.parameters {
        parameter.shallow_clone().zero_grad();
    }
    let losses = fit::backward_of(network, &mut job.parts, job.half, job.step)?;
    let mut reached = Vec::with_capacity(own.parameters.len());
    let gradients = own.parameters.iter().map(|parameter| {
        let gradient = parameter.f_grad()?;
        reached.push(gradient.defined());
        if gradient.defined() { Ok(gradient) } else { parameter.f_zeros_like() }
    });
    let gradients = flat(&gradients.collect::<Result<Vec<_>, TchError>>()?)?;
    Ok(Done { losses, gradients, reached, statistics: flat(&own.statistics)? })
}

/// The elements of all tensors, one after another: a copy, on the device that they are on.
fn flat(tensors: &[Tensor]) -> Result<Tensor, TchError> {
    match tensors {
        [] => Tensor::f_zeros([0i64], (Kind::Float, Device::Cpu)),
        // A concatenation of one may be a view of it.
        [one] => one.f_detach_copy()?.f_reshape([-1i64]),
        _ => {
            let rows = tensors.iter().map(|tensor| tensor.f_detach()?.f_reshape([-1i64]));
            Tensor::f_cat(&rows.collect::<Result<Vec<_>, _>>()?, 0)
        }
    }
}

/// What [`flat`] has put together, as views of the shapes of `like`.
fn pieces(flat: &Tensor, like: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
    let mut from = 0;
    let piece = |tensor: &Tensor| {
        let count = tensor.numel() as i64;
        let piece = flat.f_narrow(0, from, count)?.f_view_as(tensor);
        from += count;
        piece
    };
    like.iter().map(piece).collect()
}

/// Overwrites the tensors by what [`flat`] has put together of such.
fn fill(tensors: &[Tensor], flat: &Tensor) -> Result<(), TchError> {
    for (tensor, piece) in tensors.iter().zip(pieces(flat, tensors)?) {
        tensor.shallow_clone().f_copy_(&piece)?;
    }
    Ok(())
}

fn unlike(name: &str) -> FitError {
    FitError::Replica(format!("it has no variable `{name}`, which the main network has"))
}

fn gone() -> FitError {
    FitError::Replica("its thread is gone".to_owned())
}

#[cfg(test)]
mod tests;
