//! The trainer of a study: it stands for a client that trains elsewhere. It lays its job on the desk, passes on what the client
//! says to the engine and the engine's verdict to the client, and gives the trial back when the client is silent too long.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::Value;
use spnas_actors::stopping::Verdict;
use spnas_actors::trial::Limit;
use spnas_actors::{Epoch, Progress, Start, TrainJob, TrainTrial, Trained, TrialError, WeightsId};
use tokio::sync::oneshot;

use super::desk::{Answer, Desk, From, Offer, Said};
use crate::service::folded::no_weights;

/// How often it looks whether the study is being stopped.
const TURN: Duration = Duration::from_millis(50);

/// A trainer that stands for a client.
pub(crate) struct External {
    desk: Arc<Desk>,
}

impl External {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }
}

impl TrainTrial for External {
    type Candidate = Value;

    fn train(&mut self, job: &TrainJob<Value>, progress: &mut Progress) -> Result<Trained, TrialError> {
        let begun = match &job.start {
            Start::Resume { epoch, .. } => *epoch,
            Start::Fresh | Start::Inherit { .. } => Epoch(0),
        };
        // What a client is told of a trial must be there after a crash.
        progress.await_durable()?;
        // One at a time: a client waits for its answer.
        let (said, heard) = crossbeam_channel::bounded(1);
        self.desk.lay(offer(job), said);
        let mut visit = Visit { desk: &self.desk, job, progress, stored: HashSet::new(), epoch: begun };
        let end = visit.attend(&heard);
        self.desk.take_away(job.trial);
        // Whoever has spoken in the meantime has come too late, and is answered by the channel's end.
        end
    }
}

fn offer(job: &TrainJob<Value>) -> Offer {
    let from = match &job.start {
        Start::Fresh => From::Fresh,
        // A parent whose client kept its weights has none to give.
        Start::Inherit { weights, .. } if *weights == no_weights() => From::Fresh,
        Start::Inherit { parent, weights, .. } => From::Parent { trial: *parent, weights: weights.clone() },
        Start::Resume { epoch, checkpoint } => From::Checkpoint { epoch: *epoch, weights: checkpoint.clone() },
    };
    let (trial, attempt, candidate) = (job.trial, job.attempt, job.candidate.clone());
    Offer { trial, attempt, candidate, from, epochs: job.epochs, seed: job.seed }
}

/// A job while a client has it.
struct Visit<'a> {
    desk: &'a Desk,
    job: &'a TrainJob<Value>,
    progress: &'a mut Progress,
    /// The weights that the client has sent.
    stored: HashSet<WeightsId>,
    /// The last epoch reported.
    epoch: Epoch,
}

impl Visit<'_> {
    fn attend(&mut self, heard: &Receiver<Said>) -> Result<Trained, TrialError> {
        loop {
            // Ends the attempt where the study is being stopped.
            self.progress.step()?;
            match heard.recv_timeout(TURN) {
                Ok(said) => {
                    if let Some(end) = self.hear(said) {
                        return end;
                    }
                    // What writing it down took is not the client's silence.
                    self.desk.renew(self.job.trial);
                }
                Err(RecvTimeoutError::Timeout) if self.desk.expired(self.job.trial, Instant::now()) => {
                    let lease = self.desk.lease().as_secs_f64();
                    return Err(TrialError::message(format!("its client was silent for {lease} seconds")));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The desk holds the other end as long as the trial is on it or with a client.
                Err(RecvTimeoutError::Disconnected) => return Err(TrialError::message("its client was lost")),
            }
        }
    }

    /// Takes in what the client says; the attempt's end, if it is one.
    fn hear(&mut self, said: Said) -> Option<Result<Trained, TrialError>> {
        match said {
            Said::Weights { bytes, reply } => match self.progress.save(bytes) {
                Ok(id) => {
                    self.stored.insert(id.clone());
                    answer(reply, Answer::Stored(id));
                }
                Err(error) => answer(reply, Answer::Broken(error.to_string())),
            },
            Said::Report { epoch, metrics, checkpoint, reply } => {
                if let Some(why) = self.refuses(epoch).or_else(|| self.unknown(checkpoint.as_ref())) {
                    answer(reply, Answer::Refused(why));
                    return None;
                }
                let names = metrics.keys().cloned().collect();
                let verdict = self.progress.judged(epoch, metrics, checkpoint);
                // What a client is answered must be there after a crash. What was not taken in gets no answer, which says so.
                let Some(verdict) = verdict.filter(|_| self.progress.await_durable().is_ok()) else {
                    return Some(Err(TrialError::Interrupted));
                };
                self.desk.reported(self.job.trial, names);
                if verdict != Verdict::Continue {
                    answer(reply, Answer::Stop);
                    return Some(Err(TrialError::Interrupted));
                }
                self.epoch = epoch;
                answer(reply, Answer::Continue);
            }
            Said::Tell { metrics, weights, reply } => {
                if let Some(why) = self.unknown(weights.as_ref()) {
                    answer(reply, Answer::Refused(why));
                    return None;
                }
                // A trial whose client keeps its weights has those of no bytes.
                let weights = weights.map_or_else(|| self.progress.save(Vec::new()), Ok);
                let end = weights.map(|weights| Trained { weights, metrics });
                let said = end
                    .as_ref()
                    .err()
                    .map_or(Answer::Ended(self.job.attempt), |error| Answer::Broken(error.to_string()));
                answer(reply, said);
                return Some(end);
            }
            Said::Failed { why, infeasible, reply } => {
                answer(reply, Answer::Ended(self.job.attempt));
                return Some(Err(match infeasible {
                    true => TrialError::Infeasible { why, limit: Limit::Upper },
                    false => TrialError::message(why),
                }));
            }
        }
        None
    }

    fn refuses(&self, epoch: Epoch) -> Option<String> {
        let (last, all) = (self.epoch, self.job.epochs);
        (epoch <= last || epoch > all)
            .then(|| format!("epoch {epoch} cannot be reported: {last} was the last, and there are {all}"))
    }

    fn unknown(&self, weights: Option<&WeightsId>) -> Option<String> {
        let weights = weights.filter(|weights| !self.stored.contains(*weights))?;
        Some(format!("no weights {weights} were sent for this attempt"))
    }
}

fn answer(reply: oneshot::Sender<Answer>, answer: Answer) {
    // A client that has hung up needs none.
    let _ = reply.send(answer);
}
