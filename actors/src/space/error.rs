//! What can be wrong with a space of parameters, and with an assignment to one.

use super::value::ParamValue;

/// A domain that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DomainError {
    /// A category without choices.
    #[error("`range` is empty: list at least one value")]
    Empty,
    /// A choice that stands there twice.
    #[error("`range` has {value} twice: list each value once")]
    Twice {
        /// The choice.
        value: ParamValue,
    },
    /// Bounds in the wrong order.
    #[error("`range` is [{low}, {high}]: the least comes first")]
    Reversed {
        /// The first bound.
        low: f64,
        /// The second.
        high: f64,
    },
    /// A bound that is no number, or a range wider than numbers go.
    #[error("the bounds of `range` must be finite numbers")]
    NotFinite,
    /// A logarithmic range that reaches down to 0.
    #[error(
        "`range` begins at {low}, and a logarithmic range (`…_EXP`) lies above 0: begin at a small number, or use the linear type"
    )]
    LogOfNothing {
        /// Its beginning.
        low: f64,
    },
    /// A step below 1.
    #[error("`step` is {step}, and must be 1 or more")]
    Step {
        /// The step.
        step: i64,
    },
    /// Steps on a logarithmic scale.
    #[error("`step` goes with INT alone: leave it out, or list the values as a CATEGORY")]
    StepOnLog,
}

/// Parameters that make no space.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpaceError {
    /// There are none.
    #[error("there is no parameter to search: write at least one under `hyperparameters`")]
    NoParameters,
    /// A name that cannot be one.
    #[error("`{name}` is no name of a parameter: use letters, digits, `_`, `-` and `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// Two parameters of one name.
    #[error("`{name}` stands there twice: each parameter has a name of its own")]
    Twice {
        /// The name.
        name: String,
    },
    /// A parameter without values.
    #[error("`{name}`: {why}")]
    Domain {
        /// The parameter.
        name: String,
        /// What is wrong with its values.
        why: DomainError,
    },
    /// A condition on nothing.
    #[error("`{child}` depends on `{parent}`, which is no parameter of this space (there is {})", known.join(", "))]
    UnknownParent {
        /// The parameter that depends.
        child: String,
        /// On what.
        parent: String,
        /// The parameters there are.
        known: Vec<String>,
    },
    /// A condition on a number that is drawn from a continuum.
    #[error("`{child}` depends on `{parent}`, whose values are floats and never equal: make it a CATEGORY or INT")]
    FloatParent {
        /// The parameter that depends.
        child: String,
        /// On what.
        parent: String,
    },
    /// A condition on a value that never is.
    #[error("`{child}` depends on `{parent}` being {value}, which is not one of its values")]
    NeverIs {
        /// The parameter that depends.
        child: String,
        /// On what.
        parent: String,
        /// The value.
        value: ParamValue,
    },
    /// Conditions that no candidate meets.
    #[error("`{child}` would never be active: its conditions leave `{parent}` no value")]
    NeverActive {
        /// The parameter that depends.
        child: String,
        /// On what.
        parent: String,
    },
    /// Parameters that depend on one another in a circle.
    #[error("conditions in a circle: {}: remove one of them", names.join(" -> "))]
    Cycle {
        /// The circle, the first name again at its end.
        names: Vec<String>,
    },
}

impl SpaceError {
    /// The parameter that is at fault, where it is one.
    pub fn parameter(&self) -> Option<&str> {
        match self {
            SpaceError::NoParameters => None,
            SpaceError::Name { name } | SpaceError::Twice { name } | SpaceError::Domain { name, .. } => Some(name),
            SpaceError::UnknownParent { child, .. }
            | SpaceError::FloatParent { child, .. }
            | SpaceError::NeverIs { child, .. }
            | SpaceError::NeverActive { child, .. } => Some(child),
            SpaceError::Cycle { names } => names.first().map(String::as_str),
        }
    }

    /// Whether it is a condition that is at fault.
    pub fn is_of_condition(&self) -> bool {
        !matches!(self, Self::NoParameters | Self::Name { .. } | Self::Twice { .. } | Self::Domain { .. })
    }
}

/// Values that are no candidate of a space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// A value for nothing.
    #[error("there is no parameter `{name}`")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A value for a parameter that is not active beside the others.
    #[error("`{name}` is not active beside the other values: leave it out")]
    Inactive {
        /// The parameter.
        name: String,
    },
    /// An active parameter without a value.
    #[error("`{name}` has no value")]
    Missing {
        /// The parameter.
        name: String,
    },
    /// A value that is not one of the parameter's.
    #[error("`{name}` cannot be {value}")]
    Outside {
        /// The parameter.
        name: String,
        /// The value.
        value: ParamValue,
    },
}
