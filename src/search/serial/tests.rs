//! The sampler, asked and told by hand.

use std::cell::RefCell;
use std::collections::BTreeSet;

use spnas_actors::ids::Epoch;
use spnas_actors::objective::Metrics;
use spnas_actors::rng::stream;
use spnas_actors::trial::{FailureReason, Limit};

use super::*;
use crate::arch::cost::{InputSize, MultiplyAdds};
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
        stuck: None,
    }
}

/// A search with the engine's part of it played by hand.
struct Asked {
    search: SerialSearch,
    front: Front,
    keys: RefCell<BTreeSet<String>>,
    proposed: u64,
    told: u64,
}

impl Asked {
    fn new(space: SerialSpace) -> Self {
        let search = SerialSearch::new(space).unwrap();
        Self { search, front: Front::new(2), keys: RefCell::default(), proposed: 0, told: 0 }
    }

    fn ask(&mut self) -> Suggestion<Architecture> {
        let is_new = |key: &str| !self.keys.borrow().contains(key);
        let rng = &mut stream(1, self.proposed);
        let ask = &mut Ask { rng, proposed: self.proposed, front: &self.front, is_new: &is_new };
        let suggestion = self.search.ask(ask);
        if let Suggestion::Propose(proposal) = &suggestion {
            assert!(self.keys.borrow_mut().insert(proposal.key.clone()), "{} was proposed twice", proposal.key);
            self.proposed += 1;
        }
        suggestion
    }

    fn propose(&mut self) -> Proposal<Architecture> {
        match self.ask() {
            Suggestion::Propose(proposal) => proposal,
            other => panic!("{other:?}"),
        }
    }

    /// The next trial number, ended with these costs.
    fn finish(&mut self, proposal: &Proposal<Architecture>, costs: [f64; 2]) -> TrialId {
        let trial = self.end(proposal, Outcome::Finished, Some(costs.to_vec()));
        self.front.insert(trial, costs.to_vec()).unwrap();
        trial
    }

    fn end(&mut self, proposal: &Proposal<Architecture>, outcome: Outcome, costs: Option<Vec<f64>>) -> TrialId {
        self.told += 1;
        let trial = TrialId(self.told);
        self.search.tell(&Observation {
            trial,
            candidate: Arc::new(proposal.candidate.clone()),
            key: proposal.key.as_str().into(),
            parent: proposal.parent,
            outcome,
            metrics: Metrics::new(),
            costs,
            stopped_costs: None,
        });
        trial
    }
}

#[test]
fn the_seeds_come_first_and_then_mutants_of_them_while_nothing_has_finished() {
    let mut asked = Asked::new(space(&[SEED, "11-21-21-21"]));
    let first = asked.propose();
    assert_eq!((first.key.as_str(), first.origin.as_str()), ("vega:111-2111-211111-211/basic/7x7/16", "seed"));
    assert_eq!(asked.propose().key, "vega:11-21-21-21/basic/7x7/16");
    let third = asked.propose();
    assert_eq!(third.parent, None);
    assert_ne!(third.origin, "seed");
}

#[test]
fn a_parent_comes_from_the_front_and_its_own_code_is_mutated() {
    let mut asked = Asked::new(space(&[SEED]));
    let seed = asked.propose();
    asked.finish(&seed, [2.0, 2.0]);
    let child = asked.propose();
    assert_eq!(child.parent, Some(TrialId(1)));
    asked.finish(&child, [1.0, 1.0]);
    // Only trial 2 is on the front: every grandchild holds all of its blocks.
    for _ in 0..20 {
        let grandchild = asked.propose();
        assert_eq!(grandchild.parent, Some(TrialId(2)));
        let ids: Vec<_> = grandchild.candidate.serial.sequence.blocks().iter().map(|block| block.id).collect();
        assert!(child.candidate.serial.sequence.blocks().iter().all(|block| ids.contains(&block.id)));
    }
}

#[test]
fn every_member_of_the_front_is_drawn_about_as_often() {
    let mut asked = Asked::new(space(&[SEED]));
    let proposals: Vec<_> = (0..4).map(|_| asked.propose()).collect();
    for (number, proposal) in proposals.iter().enumerate() {
        asked.finish(proposal, [number as f64, -(number as f64)]);
    }
    let mut counts = [0; 4];
    for _ in 0..400 {
        let parent = asked.propose().parent.unwrap();
        counts[usize::try_from(parent.0).unwrap() - 1] += 1;
    }
    assert!(counts.iter().all(|count| (70..130).contains(count)), "{counts:?}");
}

#[test]
fn parents_are_the_fronts_members_and_no_failed_or_stopped_trial() {
    let mut asked = Asked::new(space(&[SEED]));
    let proposals: Vec<_> = (0..5).map(|_| asked.propose()).collect();
    asked.finish(&proposals[0], [3.0, 1.0]);
    asked.finish(&proposals[1], [1.0, 3.0]);
    assert_eq!(asked.search.parents(), [TrialId(1), TrialId(2)]);
    asked.end(&proposals[2], Outcome::Failed { reason: FailureReason::WorkerLost }, None);
    asked.end(&proposals[3], Outcome::Stopped { epoch: Epoch(1) }, None);
    assert_eq!(asked.search.parents(), [TrialId(1), TrialId(2)]);
    asked.finish(&proposals[4], [0.0, 2.0]);
    assert_eq!(asked.search.parents(), [TrialId(1), TrialId(5)]);
}

#[test]
fn a_space_that_is_used_up_waits_for_running_trials_and_then_is_exhausted() {
    // Four blocks in two stages at most: swaps of one mark, and nothing else.
    let mut space = space(&["11-21"]);
    space.limits = Limits { depth: Bounds::new(4, 4).unwrap(), stages: Bounds::new(2, 2).unwrap() };
    let mut asked = Asked::new(space);
    let mut running = Vec::new();
    let mut waits = 0;
    loop {
        match asked.ask() {
            Suggestion::Propose(proposal) => running.push(proposal),
            Suggestion::Wait => {
                waits += 1;
                let ended = running.remove(0);
                asked.finish(&ended, [f64::from(waits), -f64::from(waits)]);
            }
            Suggestion::Exhausted => break,
        }
    }
    assert!(running.is_empty());
    // One mark of each kind, each on one of three blocks.
    assert_eq!((asked.keys.borrow().len(), waits), (9, 9));
}

#[test]
fn vega_mutates_the_seed_and_inherits_from_the_front() {
    let mut settings = space(&[SEED]);
    settings.mutation.policy = Policy::Vega;
    settings.limits = Limits::NONE;
    let mut asked = Asked::new(settings);
    let seed = asked.propose();
    let mut last = asked.finish(&seed, [0.0, 0.0]);
    for number in 1..40 {
        let proposal = asked.propose();
        assert_eq!(proposal.parent, Some(last));
        // Three expands of two blocks at most, always from the seed's sixteen.
        assert!(proposal.candidate.serial.sequence.depth() <= 22);
        last = asked.finish(&proposal, [-f64::from(number), 0.0]);
    }
}

#[test]
fn nothing_above_a_ceiling_is_proposed() {
    let mut space = space(&[SEED]);
    let most = cost::backbone(&space.seeds[0], space.ceilings.input).unwrap().params;
    space.ceilings.params = Some(most);
    let ceilings = space.ceilings.clone();
    let mut asked = Asked::new(space);
    for _ in 0..50 {
        let proposal = asked.propose();
        assert!(ceilings.check(&proposal.candidate).is_ok());
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
        (0..30).map(|_| asked.propose()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn every_proposal_is_within_the_quota_from_either_side() {
    let mut space = space(&[SEED]);
    space.ceilings.quota = "params in [1200, 1700] and flops < 0.12".parse().unwrap();
    let cost = cost::backbone(&space.seeds[0], space.ceilings.input).unwrap();
    assert!((1.2e6..1.7e6).contains(&(cost.params.0 as f64)) && cost.multiply_adds.0 < 120_000_000, "{cost:?}");
    let without = {
        let mut free = Asked::new(SerialSpace { ceilings: Ceilings::none(space.ceilings.input), ..space.clone() });
        (0..50).filter(|_| space.ceilings.check(&free.propose().candidate).is_err()).count()
    };
    assert!(without > 5, "the quota forbids {without} of 50");
    let ceilings = space.ceilings.clone();
    let mut asked = Asked::new(space);
    for _ in 0..50 {
        assert!(ceilings.check(&asked.propose().candidate).is_ok());
    }
}

#[test]
fn a_seed_outside_the_quota_is_an_error_before_the_start() {
    let mut space = space(&[SEED]);
    space.ceilings.quota = "params < 100".parse().unwrap();
    let error = space.check_seeds().unwrap_err().to_string();
    assert!(error.starts_with(&format!("seed vega:{SEED} cannot be searched from: params is ")), "{error}");
    assert!(error.ends_with(", the quota allows < 100"), "{error}");
    assert_eq!(SerialSearch::new(space.clone()).unwrap_err().to_string(), error);
    space.ceilings.quota = "latency < 0.1".parse().unwrap();
    assert_eq!(space.check_seeds(), Ok(()), "no count tells a latency");
}

#[test]
fn after_an_infeasible_trial_nothing_is_proposed_that_has_at_least_as_much_of_everything() {
    for limit in [Limit::Upper, Limit::Lower] {
        let space = space(&[SEED]);
        let input = space.ceilings.input;
        let mut asked = Asked::new(space);
        let counts = |candidate: &Architecture| {
            let cost = cost::architecture(candidate, input).unwrap();
            [cost.params.0, cost.multiply_adds.0, cost.activation_bytes.0]
        };
        let outside = |one: &Architecture, other: &Architecture| {
            let mut pairs = counts(one).into_iter().zip(counts(other));
            match limit {
                Limit::Upper => pairs.all(|(one, other)| one >= other),
                Limit::Lower => pairs.all(|(one, other)| one <= other),
            }
        };
        let seed = asked.propose();
        asked.finish(&seed, [1.0, 1.0]);
        // A child that larger, or smaller, ones would have followed.
        let child = (0..50).map(|_| asked.propose()).find(|child| !outside(&seed.candidate, &child.candidate)).unwrap();
        let before = (0..40).filter(|_| outside(&asked.propose().candidate, &child.candidate)).count();
        assert!(before > 0, "{limit:?}");
        let reason = FailureReason::Infeasible { why: "latency is 9, the quota allows < 5".to_owned(), limit };
        asked.end(&child, Outcome::Failed { reason }, None);
        for _ in 0..40 {
            let next = asked.propose().candidate;
            assert!(!outside(&next, &child.candidate), "{limit:?}: {}", next.key());
        }
    }
}

#[test]
fn a_reignited_backbone_keeps_its_stem_where_another_breaks_the_quota() {
    for (quota, stem) in [("model_valid", Stem::TwoThreeByThree), ("params >= 1335.248", Stem::SevenBySeven)] {
        let mut space = space(&[SEED]);
        space.stuck = Some(Stuck { n_stuck: 1, max_reignitions: 1, stem: Some(Stem::TwoThreeByThree) });
        space.ceilings.quota = quota.parse().unwrap();
        // The two 3x3 have fewer parameters at this width.
        let of =
            |stem| cost::backbone(&SerialBackbone { stem, ..backbone(SEED) }, space.ceilings.input).unwrap().params;
        assert_eq!((of(Stem::SevenBySeven).0, of(Stem::TwoThreeByThree).0), (1_335_248, 1_334_280));
        let mut asked = Asked::new(space);
        let seed = asked.propose();
        asked.finish(&seed, [1.0, 1.0]);
        let child = asked.propose();
        asked.finish(&child, [2.0, 2.0]);
        let again = asked.propose();
        assert_eq!((again.origin.as_str(), again.candidate.serial.stem), ("reignition 1", stem));
    }
}
