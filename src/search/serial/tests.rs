//! The sampler, asked and told by hand.

use std::cell::RefCell;
use std::collections::BTreeSet;

use spnas_actors::objective::Metrics;
use spnas_actors::rng::stream;
use spnas_actors::trial::FailureReason;

use super::*;
use crate::arch::limits::Bounds;
use crate::arch::serial::{BlockKind, Stem};

const SEED: &str = "111-2111-211111-211";

fn backbone(code: &str) -> SerialBackbone {
    let sequence = Grammar::Vega.parse(code).unwrap();
    SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 16 }
}

fn space(seeds: &[&str]) -> SerialSpace {
    SerialSpace {
        seeds: seeds.iter().map(|code| backbone(code)).collect(),
        mutation: Mutation::default(),
        limits: Limits::default(),
        ceilings: Ceilings::none(InputSize::new(128, 128).unwrap()),
    }
}

/// A sampler with the keys it has proposed, and the number of questions so far.
struct Asked {
    search: SerialSearch,
    keys: RefCell<BTreeSet<String>>,
    questions: u64,
}

impl Asked {
    fn new(space: SerialSpace) -> Self {
        Self { search: SerialSearch::new(space).unwrap(), keys: RefCell::default(), questions: 0 }
    }

    fn ask(&mut self, front: &[u64]) -> Suggestion<SerialBackbone> {
        self.questions += 1;
        let front: Vec<TrialId> = front.iter().copied().map(TrialId).collect();
        let is_new = |key: &str| !self.keys.borrow().contains(key);
        let suggestion = self.search.propose(&front, &is_new, &mut stream(1, self.questions));
        if let Suggestion::Propose(proposal) = &suggestion {
            assert!(self.keys.borrow_mut().insert(proposal.key.clone()), "{} was proposed twice", proposal.key);
        }
        suggestion
    }

    fn propose(&mut self, front: &[u64]) -> Proposal<SerialBackbone> {
        match self.ask(front) {
            Suggestion::Propose(proposal) => proposal,
            other => panic!("{other:?}"),
        }
    }

    fn tell(&mut self, trial: u64, proposal: &Proposal<SerialBackbone>, outcome: Outcome) {
        self.search.tell(&Observation {
            trial: TrialId(trial),
            candidate: Arc::new(proposal.candidate.clone()),
            key: proposal.key.clone(),
            parent: proposal.parent,
            outcome,
            metrics: Metrics::new(),
            costs: None,
        });
    }
}

#[test]
fn the_seeds_come_first_and_then_mutants_of_them_while_nothing_has_finished() {
    let mut asked = Asked::new(space(&[SEED, "11-21-21-21"]));
    let first = asked.propose(&[]);
    assert_eq!((first.key.as_str(), first.origin.as_str()), ("vega:111-2111-211111-211/basic/7x7/16", "seed"));
    assert_eq!(asked.propose(&[]).key, "vega:11-21-21-21/basic/7x7/16");
    let third = asked.propose(&[]);
    assert_eq!(third.parent, None);
    assert_ne!(third.origin, "seed");
}

#[test]
fn a_parent_comes_from_the_front_and_its_own_code_is_mutated() {
    let mut asked = Asked::new(space(&[SEED]));
    let seed = asked.propose(&[]);
    asked.tell(1, &seed, Outcome::Finished);
    let child = asked.propose(&[1]);
    assert_eq!(child.parent, Some(TrialId(1)));
    asked.tell(2, &child, Outcome::Finished);
    // Only trial 2 is on the front: every grandchild holds all of its blocks.
    for _ in 0..20 {
        let grandchild = asked.propose(&[2]);
        assert_eq!(grandchild.parent, Some(TrialId(2)));
        let ids: Vec<_> = grandchild.candidate.sequence.blocks().iter().map(|block| block.id).collect();
        assert!(child.candidate.sequence.blocks().iter().all(|block| ids.contains(&block.id)));
    }
}

#[test]
fn every_member_of_the_front_is_drawn_about_as_often() {
    let mut asked = Asked::new(space(&[SEED]));
    let seed = asked.propose(&[]);
    let mut told = vec![seed];
    for _ in 0..3 {
        told.push(asked.propose(&[]));
    }
    for (trial, proposal) in (1..).zip(&told) {
        asked.tell(trial, proposal, Outcome::Finished);
    }
    let mut counts = [0; 4];
    for _ in 0..400 {
        let parent = asked.propose(&[1, 2, 3, 4]).parent.unwrap();
        counts[usize::try_from(parent.0).unwrap() - 1] += 1;
    }
    assert!(counts.iter().all(|count| (70..130).contains(count)), "{counts:?}");
}

#[test]
fn parents_are_the_front_and_what_has_finished_since_the_last_question() {
    let mut asked = Asked::new(space(&[SEED]));
    let proposals: Vec<_> = (0..4).map(|_| asked.propose(&[])).collect();
    asked.tell(1, &proposals[0], Outcome::Finished);
    asked.tell(2, &proposals[1], Outcome::Finished);
    assert_eq!(asked.search.parents(), [TrialId(1), TrialId(2)]);
    asked.propose(&[2]);
    assert_eq!(asked.search.parents(), [TrialId(2)]);
    asked.tell(3, &proposals[2], Outcome::Failed { reason: FailureReason::WorkerLost });
    asked.tell(4, &proposals[3], Outcome::Finished);
    assert_eq!(asked.search.parents(), [TrialId(2), TrialId(4)]);
}

#[test]
fn a_space_that_is_used_up_waits_for_running_trials_and_then_is_exhausted() {
    // Four blocks in two stages at most: swaps of one mark, and nothing else.
    let mut space = space(&["11-21"]);
    space.limits = Limits { depth: Bounds::new(4, 4).unwrap(), stages: Bounds::new(2, 2).unwrap() };
    let mut asked = Asked::new(space);
    let mut running = vec![asked.propose(&[])];
    let mut finished: Vec<u64> = Vec::new();
    let mut trial = 0;
    loop {
        match asked.ask(&finished) {
            Suggestion::Propose(proposal) => running.push(proposal),
            Suggestion::Wait => {
                trial += 1;
                let ended = running.remove(0);
                asked.tell(trial, &ended, Outcome::Finished);
                finished.push(trial);
            }
            Suggestion::Exhausted => break,
        }
    }
    assert!(running.is_empty());
    // One mark of each kind, each on one of three blocks.
    assert_eq!(asked.keys.borrow().len(), 9);
}

#[test]
fn vega_mutates_the_seed_and_inherits_from_the_front() {
    let mut settings = space(&[SEED]);
    settings.mutation.policy = Policy::Vega;
    settings.limits = Limits::NONE;
    let mut asked = Asked::new(settings);
    let mut proposals = vec![asked.propose(&[])];
    asked.tell(1, &proposals[0], Outcome::Finished);
    for trial in 2..40 {
        let proposal = asked.propose(&[trial - 1]);
        assert_eq!(proposal.parent, Some(TrialId(trial - 1)));
        // Three expands of two blocks at most, always from the seed's sixteen.
        assert!(proposal.candidate.sequence.depth() <= 22);
        asked.tell(trial, &proposal, Outcome::Finished);
        proposals.push(proposal);
    }
}

#[test]
fn nothing_above_a_ceiling_is_proposed() {
    let mut space = space(&[SEED]);
    let most = cost::backbone(&space.seeds[0], space.ceilings.input).unwrap().params;
    space.ceilings.params = Some(most);
    let ceilings = space.ceilings;
    let mut asked = Asked::new(space);
    for _ in 0..50 {
        let proposal = asked.propose(&[]);
        assert_eq!(ceilings.check(&proposal.candidate), Ok(()));
    }
}

#[test]
fn a_seed_outside_limits_or_ceilings_is_an_error_before_the_start() {
    let error = SerialSearch::new(space(&["1-2-2-2"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "seed vega:1-2-2-2 is outside the limits: 4 blocks are fewer than the smallest depth allowed, 8"
    );
    let mut space = space(&[SEED]);
    space.ceilings.multiply_adds = Some(MultiplyAdds(1000));
    let error = SerialSearch::new(space.clone()).unwrap_err();
    assert!(error.to_string().ends_with("multiply-adds are above the ceiling of 1000"), "{error}");
    space.seeds.clear();
    assert_eq!(SerialSearch::new(space).unwrap_err(), SeedError::None);
}

#[test]
fn the_same_questions_get_the_same_answers() {
    let run = || {
        let mut asked = Asked::new(space(&[SEED]));
        (0..30).map(|_| asked.propose(&[])).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
