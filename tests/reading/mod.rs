//! Configurations as texts, for the tests of what is read from them.

use std::path::Path;

use spnas::config::{self, Checked, ConfigErrors, Options, StepKind};

/// The configuration of this text; its data are not looked for.
pub(crate) fn parse(text: &str, overrides: &[&str], environment: &[(&str, &str)]) -> Result<Checked, ConfigErrors> {
    let options = Options {
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        without_data: true,
    };
    config::parse(Path::new("spnas.yml"), text.to_owned(), &options)
}

/// Its first step, a search.
#[expect(clippy::panic, reason = "a test")]
pub(crate) fn search(checked: &Checked) -> &config::SearchStep {
    match &checked.steps[0].kind {
        StepKind::Search(step) => step,
        StepKind::Train(_) | StepKind::Program(_) => panic!("a search step"),
    }
}

/// What is wrong with it, in words.
pub(crate) fn messages(result: Result<Checked, ConfigErrors>) -> String {
    result.map_or_else(|errors| errors.to_string(), |checked| format!("good: {checked:?}"))
}
