//! The settings of the engine's samplers, in the section `search_algorithm` of either kind of search step.

use std::num::NonZeroU32;

use spnas_actors::sampler::evolution::EvolutionSpec;
use spnas_actors::sampler::forest::ForestSpec;
use spnas_actors::sampler::local::LocalSpec;
use spnas_actors::sampler::pareto::ParetoSpec;
use spnas_actors::sampler::spec::SamplerSpec;
use spnas_actors::sampler::tpe::TpeSpec;

use crate::config::error::ProblemKind;
use crate::config::section::Section;
use crate::config::setting::Ratio;

use super::model::at_least_one;

/// Samplers by their written names.
pub(super) const NAMES: [&str; 6] = ["Forest", "TPE", "NSGA2", "AgingEvolution", "LocalSearch", "Random"];

/// The settings of samplers, and who has each.
const SETTINGS: [(&str, &[&str]); 12] = [
    ("start", &["Forest", "TPE", "NSGA2", "LocalSearch"]),
    ("population", &["Forest", "TPE", "NSGA2", "AgingEvolution"]),
    ("tournament", &["NSGA2", "AgingEvolution"]),
    ("crossover", &["Forest", "NSGA2"]),
    ("mutation", &["NSGA2"]),
    ("breadth", &["LocalSearch"]),
    ("pool", &["Forest", "TPE"]),
    ("trees", &["Forest"]),
    ("window", &["Forest", "TPE"]),
    ("explore", &["Forest"]),
    ("best", &["TPE"]),
    ("evolve", &["TPE"]),
];

/// Says of settings of other samplers that they have no effect.
pub(super) fn no_settings_but_its_own(section: &mut Section<'_>, kind: &str) {
    for (key, owners) in SETTINGS {
        if !owners.contains(&kind) {
            section.no_effect(&[key], &format!("{kind} has no such setting"));
        }
    }
}

/// How many candidates of `max_sample` are drawn without looking at results where nothing is said: `preset`, or a third
/// of all where that is fewer, so that a short search learns, too.
fn drawn_first(preset: usize, max_sample: NonZeroU32) -> usize {
    preset.min((max_sample.get() as usize / 3).max(1))
}

/// Warns where all `max_sample` candidates are drawn before the sampler looks at a result.
fn check_drawn_first(section: &Section<'_>, key: &'static str, drawn: usize, max_sample: NonZeroU32) {
    if drawn >= max_sample.get() as usize {
        let why = format!("with `{key}` {drawn}, all {max_sample} are drawn before a result is looked at");
        let kind = ProblemKind::NoEffect { key: section.name("type"), why };
        section.log().warn(kind, section.place_of(key));
    }
}

/// The sampler of this name, with its settings, for `max_sample` candidates.
pub(super) fn read(section: &mut Section<'_>, kind: &str, max_sample: NonZeroU32) -> SamplerSpec {
    no_settings_but_its_own(section, kind);
    let count = |section: &mut Section<'_>, key, preset: usize| {
        let preset = at_least_one(u32::try_from(preset).unwrap_or(u32::MAX));
        section.value(key, preset).get() as usize
    };
    let start = |section: &mut Section<'_>, preset| {
        let start = count(section, "start", drawn_first(preset, max_sample));
        check_drawn_first(section, "start", start, max_sample);
        start
    };
    let share = |section: &mut Section<'_>, key, preset| section.value(key, Ratio::preset(preset)).get();
    match kind {
        "NSGA2" => {
            let preset = ParetoSpec::default();
            SamplerSpec::Nsga2(ParetoSpec {
                start: start(section, preset.start),
                population: count(section, "population", preset.population),
                tournament: count(section, "tournament", preset.tournament),
                crossover: share(section, "crossover", preset.crossover),
                mutation: share(section, "mutation", preset.mutation),
            })
        }
        "AgingEvolution" => {
            let preset = EvolutionSpec::default();
            let tournament = count(section, "tournament", preset.tournament);
            // As many as a tournament draws must be there.
            let population = drawn_first(preset.population, max_sample).max(tournament);
            let population = count(section, "population", population);
            check_drawn_first(section, "population", population, max_sample);
            if tournament > population {
                section.impossible("tournament", format!("draws more than the population of {population}"));
            }
            SamplerSpec::AgingEvolution(EvolutionSpec { population, tournament })
        }
        "LocalSearch" => {
            let preset = LocalSpec::default();
            SamplerSpec::LocalSearch(LocalSpec {
                start: start(section, preset.start),
                breadth: count(section, "breadth", preset.breadth),
            })
        }
        "TPE" => {
            let preset = TpeSpec::default();
            SamplerSpec::Tpe(TpeSpec {
                start: start(section, preset.start),
                population: count(section, "population", preset.population),
                best: share(section, "best", preset.best),
                pool: count(section, "pool", preset.pool),
                window: count(section, "window", preset.window),
                evolve: share(section, "evolve", preset.evolve),
            })
        }
        "Random" => SamplerSpec::Random {},
        _ => {
            let preset = ForestSpec::default();
            SamplerSpec::Forest(ForestSpec {
                start: start(section, preset.start),
                population: count(section, "population", preset.population),
                pool: count(section, "pool", preset.pool),
                trees: count(section, "trees", preset.trees),
                window: count(section, "window", preset.window),
                crossover: share(section, "crossover", preset.crossover),
                explore: share(section, "explore", preset.explore),
            })
        }
    }
}
