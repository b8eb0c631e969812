//! Permits: trainers that stand for somebody outside the process ask for work only when that somebody does, so that a
//! candidate is chosen at the last moment, with every result that has arrived by then. Permits come in from any thread;
//! each lets one trainer ask once.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Lets the trainers of a search ask for work, once a permit; see [`crate::Search::permits`]. A clone is the same.
#[derive(Debug, Clone)]
pub struct WorkPermits(Arc<Semaphore>);

impl Default for WorkPermits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl WorkPermits {
    /// One more trainer may ask for work.
    pub fn add(&self) {
        // Far more than there can be trainers are of no use, and a semaphore has its limit.
        if self.0.available_permits() < Semaphore::MAX_PERMITS / 2 {
            self.0.add_permits(1);
        }
    }

    /// Waits for a permit and uses it up.
    pub(crate) async fn take(&self) {
        // Nobody closes it.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::sampler::{Ask, Observation, Proposal, Suggestion};
    use crate::{
        Command, Epoch, Objective, Progress, Sampler, Search, TrainJob, TrainTrial, Trained, TrialError, TrialId,
    };

    /// Proposes 0, 1, 2, and so on.
    struct Counting;

    impl Sampler for Counting {
        type Candidate = u32;

        fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<u32> {
            let key = ask.proposed.to_string();
            let candidate = u32::try_from(ask.proposed).unwrap();
            Suggestion::Propose(Proposal { candidate, key, parent: None, origin: "counted".to_owned() })
        }

        fn tell(&mut self, _: &Observation<u32>) {}

        fn parents(&self) -> Vec<TrialId> {
            Vec::new()
        }
    }

    /// Tells of each job that it gets.
    struct Told(mpsc::Sender<u64>);

    impl TrainTrial for Told {
        type Candidate = u32;

        fn train(&mut self, job: &TrainJob<u32>, progress: &mut Progress) -> Result<Trained, TrialError> {
            // A test that is over hears no more.
            let _ = self.0.send(job.trial.0);
            let metrics = crate::metrics([("score", f64::from(*job.candidate))])?;
            Ok(Trained { weights: progress.save(Vec::new())?, metrics })
        }
    }

    #[test]
    fn a_trial_is_chosen_when_it_is_asked_for_and_not_before() {
        let (jobs, told) = mpsc::channel();
        let permits = WorkPermits::default();
        let device = crate::device::Device::new(crate::device::Place::Cpu { index: 0 }, 1);
        let search: Search<u32> = Search::new([Objective::maximise("score")], 100, Epoch(1))
            .sampler(|| Counting)
            .permits(permits.clone())
            .trainers(vec![device; 4], move |_| Ok(Told(jobs.clone())));
        let handle = search.start().unwrap();
        let remote = handle.remote();
        for trial in 1..=6 {
            assert_eq!(remote.snapshot().unwrap().counts.proposed, trial - 1, "nobody has asked for another");
            permits.add();
            assert_eq!(told.recv().unwrap(), trial);
            while remote.snapshot().unwrap().counts.finished < trial {
                std::thread::yield_now();
            }
        }
        assert!(remote.send(Command::Stop));
        assert_eq!(handle.wait().unwrap().counts.proposed, 6);
    }
}
