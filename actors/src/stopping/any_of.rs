//! Several rules at once: a trial ends as soon as any of them ends it. One of them may pause trials; a second that did
//! would hold trials that the first promotes.

use crate::ids::TrialId;
use crate::stopping::{Report, StoppingRule, Verdict};

/// More than one of the rules may pause trials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} of the rules pause trials: only one may, the others must stop or let go on")]
pub struct AnyOfError(usize);

/// Each of these rules sees each report. Any that says [`Verdict::Stop`] ends the trial; else it pauses where the one that
/// pauses says so.
pub struct AnyOf {
    rules: Vec<Box<dyn StoppingRule>>,
}

impl AnyOf {
    /// The rule made of these.
    ///
    /// # Errors
    /// Where more than one of them pauses trials ([`StoppingRule::pauses`]).
    pub fn new(rules: impl Into<Vec<Box<dyn StoppingRule>>>) -> Result<Self, AnyOfError> {
        let rules = rules.into();
        match rules.iter().filter(|rule| rule.pauses()).count() {
            0 | 1 => Ok(Self { rules }),
            more => Err(AnyOfError(more)),
        }
    }
}

impl StoppingRule for AnyOf {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        let mut verdict = Verdict::Continue;
        for rule in &mut self.rules {
            verdict = match (verdict, rule.report(report)) {
                (Verdict::Stop, _) | (_, Verdict::Stop) => Verdict::Stop,
                (Verdict::Pause, _) | (_, Verdict::Pause) => Verdict::Pause,
                (Verdict::Continue, Verdict::Continue) => Verdict::Continue,
            };
        }
        verdict
    }

    fn promotable(&self) -> Option<TrialId> {
        self.rules.iter().find_map(|rule| rule.promotable())
    }

    fn promoted(&mut self, trial: TrialId) {
        for rule in &mut self.rules {
            rule.promoted(trial);
        }
    }

    fn ended(&mut self, trial: TrialId) {
        for rule in &mut self.rules {
            rule.ended(trial);
        }
    }

    fn finalist(&self) -> Option<TrialId> {
        self.rules.iter().find_map(|rule| rule.finalist())
    }

    fn pauses(&self) -> bool {
        self.rules.iter().any(|rule| rule.pauses())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::objective::Score;
    use crate::stopping::asha::{Asha, AshaMode, AshaSpec};
    use crate::stopping::plateau::{Plateau, PlateauSpec};

    fn asha(mode: AshaMode) -> Box<dyn StoppingRule> {
        Box::new(Asha::new(AshaSpec { min_epochs: Epoch(2), max_epochs: Epoch(9), eta: 2, mode }).unwrap())
    }

    fn plateau() -> Box<dyn StoppingRule> {
        let spec = PlateauSpec { patience: Epoch(2), min_delta: 0.0, min_epochs: Epoch(1) };
        Box::new(Plateau::new(spec).unwrap())
    }

    fn told(rule: &mut AnyOf, trial: u64, epoch: u32, cost: f64) -> Verdict {
        let costs = [Score::new(cost).unwrap()];
        rule.report(Report { trial: TrialId(trial), epoch: Epoch(epoch), costs: &costs })
    }

    #[test]
    fn any_rule_ends_a_trial_and_the_pausing_one_promotes() {
        let mut rule = AnyOf::new([asha(AshaMode::Promote), plateau()]).unwrap();
        assert!(rule.pauses());
        for trial in 1..=2 {
            assert_eq!(told(&mut rule, trial, 1, 1.0), Verdict::Continue);
            assert_eq!(told(&mut rule, trial, 2, 0.5), Verdict::Pause);
        }
        assert_eq!(rule.promotable(), Some(TrialId(1)));
        rule.promoted(TrialId(1));
        assert_eq!(rule.promotable(), None);
        assert_eq!(told(&mut rule, 1, 3, 0.6), Verdict::Continue);
        assert_eq!(told(&mut rule, 1, 4, 0.6), Verdict::Stop, "the plateau's word counts before the rung's");
        rule.ended(TrialId(1));
        assert_eq!(rule.promotable(), None, "nobody that has ended waits");
    }

    #[test]
    fn two_rules_that_pause_are_refused() {
        let error = AnyOf::new([asha(AshaMode::Promote), asha(AshaMode::Promote)]).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("2 of the rules pause trials"));
        assert!(AnyOf::new([asha(AshaMode::Stop), plateau()]).is_ok_and(|rule| !rule.pauses()));
    }
}
