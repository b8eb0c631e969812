//! The board: where a running search stands, as the fold of its journal and of the transitions since. Transitions go in,
//! lines for a terminal or a log come out. No thread and no terminal in here.

use std::path::Path;
use std::time::Duration;

use spnas_actors::archive::Front;
use spnas_actors::event::{Event, Role, Transition};
use spnas_actors::journal::JournalReader;
use spnas_actors::resume::fold;
use spnas_actors::state::SearchState;
use spnas_actors::trial::{FailureReason, Outcome, Trial};
use spnas_actors::{Objective, TrialId, WorkerActivity};

use crate::report::axis::{duration, short};

/// Where a search stands.
#[derive(Debug)]
pub(crate) struct Board {
    objectives: Vec<Objective>,
    max_trials: u64,
    state: SearchState,
    front: Front,
    /// Ended trials that are in the front already, of `SearchState::ended`.
    seen: usize,
}

impl Board {
    /// The board of a search without trials.
    pub(crate) fn new(objectives: Vec<Objective>, max_trials: u64) -> Self {
        let front = Front::new(objectives.len());
        Self { objectives, max_trials, state: SearchState::default(), front, seen: 0 }
    }

    /// Starts over from the journal. Where it cannot be read, what is known stays.
    pub(crate) fn read(&mut self, journal: &Path) {
        let state = JournalReader::open(journal).map_err(|error| error.to_string());
        match state.and_then(|reader| fold(reader.read_all()).map_err(|error| error.to_string())) {
            Ok(state) => {
                self.state = state;
                self.front = Front::new(self.objectives.len());
                self.seen = 0;
                self.catch_up();
            }
            Err(error) => tracing::debug!(%error, "the live view begins without the journal"),
        }
    }

    /// Takes a transition in; a line about it where it ended a trial. A transition that is on the board already, because
    /// the journal was read after it, does not follow from what is there and changes nothing.
    pub(crate) fn take(&mut self, transition: &Transition) -> Option<String> {
        self.state.apply(transition).ok()?;
        self.catch_up();
        let ended = matches!(transition.event, Event::Finished(_) | Event::Stopped(_) | Event::Failed(_));
        let trial = self.state.trial(transition.trial).filter(|_| ended)?;
        Some(self.ended_line(trial))
    }

    /// Puts what has finished since the last time on the front.
    fn catch_up(&mut self) {
        for trial in self.state.ended()[self.seen..].iter().filter_map(|id| self.state.trial(*id)) {
            self.front.insert_finished(trial, &self.objectives);
        }
        self.seen = self.state.ended().len();
    }

    fn ended_line(&self, trial: &Trial) -> String {
        let how = match trial.outcome() {
            Some(Outcome::Finished) if self.is_on_front(trial.id) => "finished, on the front".to_owned(),
            Some(Outcome::Stopped { epoch }) => format!("stopped after epoch {epoch}"),
            Some(Outcome::Failed { reason: reason @ FailureReason::Infeasible { .. } }) => reason.to_string(),
            Some(Outcome::Failed { reason }) => format!("failed: {reason}"),
            _ => "finished".to_owned(),
        };
        let values = self.objectives.iter().filter_map(|objective| {
            let score = trial.metrics.get(&objective.name)?;
            Some(format!("  {} {}", objective.name, short(score.get())))
        });
        let counts = self.state.counts();
        let ended = counts.ended();
        let values: String = values.collect();
        plain(&format!("[{ended}/{}] trial {} {how}{values}  {}", self.max_trials, trial.id, trial.key))
    }

    fn is_on_front(&self, trial: TrialId) -> bool {
        self.front.members().any(|member| member.trial == trial)
    }

    /// The whole search in a line: `7 finished, 2 stopped, 0 failed of 20 · 3 on the front · best mAP 0.412 · 3 min 20 s`.
    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let counts = self.state.counts();
        let mut line = format!("{} finished, ", counts.finished);
        line += &format!("{} stopped, {} failed", counts.stopped, counts.failed);
        if counts.infeasible > 0 {
            line += &format!(", {} infeasible", counts.infeasible);
        }
        line += &format!(" of {}", self.max_trials);
        line += &format!(" · {} on the front", self.front.len());
        // The front is in the order of its first cost.
        let best = self.front.members().next().and_then(|member| self.state.trial(member.trial));
        if let (Some(objective), Some(trial)) = (self.objectives.first(), best)
            && let Some(score) = trial.metrics.get(&objective.name)
        {
            line += &format!(" · best {} {} (trial {})", objective.name, short(score.get()), trial.id);
        }
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        plain(&format!("{line} · {}", duration(elapsed)))
    }

    /// How many trials have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.state.ended().len() as u64
    }

    /// For how long the search had run at its latest transition.
    pub(crate) fn ran(&self) -> Duration {
        Duration::from_millis(self.state.last_ms())
    }

    /// What a worker is doing, in words: `trial 12  epoch 3/12  step 340  11-21-211`.
    pub(crate) fn worker(&self, worker: &WorkerActivity, epochs: u32) -> String {
        let Some(activity) = &worker.activity else {
            return if worker.detached { "taken away" } else { "idle" }.to_owned();
        };
        let epoch = match worker.role {
            Role::Train => format!("epoch {}/{epochs}", activity.epoch),
            Role::Evaluate => "evaluation".to_owned(),
        };
        let key = self.state.trial(activity.trial).map_or("", |trial| &trial.key);
        plain(&format!("trial {}  {epoch}  step {}  {key}", activity.trial, activity.steps))
    }
}

/// `text` on one line and without control characters, so that no message of a trial moves the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use spnas_actors::device::Place;
    use spnas_actors::event::{Failed, Finished, Leased, Proposed, Trained};
    use spnas_actors::trial::FailureReason;
    use spnas_actors::{Activity, Attempt, Epoch, Metrics, RawCandidate, Score, WeightsId};

    use super::*;

    fn transitions(trial: u64, end: Event) -> Vec<Transition> {
        let (attempt, device) = (Attempt(1), Place::Cpu { index: 0 });
        let key = format!("11-2{trial}");
        let candidate = RawCandidate::of(&key).unwrap();
        let proposed = Proposed { seen: 0, key, candidate, parent: None, origin: "seed".to_owned() };
        let trained = Trained { attempt, weights: WeightsId::of(b"w"), metrics: Metrics::new() };
        let mut events = vec![
            Event::Proposed(proposed),
            Event::Leased(Leased { role: Role::Train, attempt, device }),
            Event::Trained(trained),
        ];
        events.push(end);
        events.into_iter().map(|event| Transition { at_ms: 1_000 * trial, trial: TrialId(trial), event }).collect()
    }

    fn finished(map: f64, params: f64) -> Event {
        let metrics = [("mAP", map), ("params", params)];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), Score::new(value).unwrap())).into();
        Event::Finished(Finished { metrics })
    }

    #[test]
    fn it_tells_each_end_once_and_sums_up() {
        let mut board = Board::new(vec![Objective::maximise("mAP"), Objective::minimise("params")], 20);
        let failed = Event::Failed(Failed { reason: FailureReason::Panic { message: "a\u{1b}[2J\nb".to_owned() } });
        let mut lines = Vec::new();
        for end in [transitions(1, finished(0.4, 3e6)), transitions(2, finished(0.3, 4e6)), transitions(3, failed)] {
            lines.extend(end.iter().filter_map(|transition| board.take(transition)));
            assert_eq!(end.iter().filter_map(|transition| board.take(transition)).count(), 0, "seen before");
        }
        let lines: Vec<String> = lines.iter().map(|line| line.replace('\u{a0}', " ")).collect();
        assert_eq!(
            lines,
            [
                "[1/20] trial 1 finished, on the front  mAP 0.4  params 3 M  11-21",
                "[2/20] trial 2 finished  mAP 0.3  params 4 M  11-22",
                "[3/20] trial 3 failed: panicked: a [2J b  11-23",
            ]
        );
        let summary = board.summary(Duration::from_secs(200)).replace('\u{a0}', " ");
        let expected = "2 finished, 0 stopped, 1 failed of 20 · 1 on the front · best mAP 0.4 (trial 1) · 3 min 20 s";
        assert_eq!(summary, expected);
        let activity = Some(Activity { trial: TrialId(2), epoch: Epoch(3), steps: 40 });
        let worker = WorkerActivity { device: Place::Cpu { index: 0 }, role: Role::Train, activity, detached: false };
        assert_eq!(board.worker(&worker, 12), "trial 2  epoch 3/12  step 40  11-22");
    }
}
