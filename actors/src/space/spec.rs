//! The written form of a space: Vega's `search_space`, a list of hyperparameters and the conditions between them. Read from
//! YAML or JSON by serde; [`ParameterSpace`] is itself read and written this way.
//!
//! ```yaml
//! hyperparameters:
//!   - {key: optimizer, type: CATEGORY, range: [sgd, adam]}
//!   - {key: lr, type: FLOAT_EXP, range: [1.0e-5, 1.0e-2]}
//!   - {key: momentum, type: FLOAT, range: [0.0, 0.99]}
//! condition:
//!   - {child: momentum, parent: optimizer, type: EQUAL, range: [sgd]}
//! ```

use serde::{Deserialize, Serialize};

use super::domain::{Domain, Scale};
use super::error::SpaceError;
use super::parameters::{Condition, Holds, Parameter, ParameterSpace};
use super::value::ParamValue;

/// A space as it is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceSpec {
    /// The parameters.
    pub hyperparameters: Vec<HyperparameterSpec>,
    /// Which of them are active only beside given values of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub condition: Vec<ConditionSpec>,
}

/// A parameter as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HyperparameterSpec {
    /// Its name.
    pub key: String,
    /// What kind of values it has.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// The choices of a CATEGORY, the least and the most of numbers, nothing for a BOOL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub range: Vec<ParamValue>,
    /// The distance between two values of an INT; 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
}

/// Vega's types of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ParameterType {
    /// One of a list.
    Category,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A whole number by its logarithm.
    IntExp,
    /// A number.
    Float,
    /// A number by its logarithm.
    FloatExp,
}

impl ParameterType {
    /// All of them by their written names.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("CATEGORY", Self::Category),
        ("BOOL", Self::Bool),
        ("INT", Self::Int),
        ("INT_EXP", Self::IntExp),
        ("FLOAT", Self::Float),
        ("FLOAT_EXP", Self::FloatExp),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// A condition as it is written. Several of one child must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionSpec {
    /// Its name, which says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The parameter that is active only where this holds.
    pub child: String,
    /// The parameter that is looked at.
    pub parent: String,
    /// How its value is compared.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// With what.
    pub range: Vec<ParamValue>,
}

/// Vega's types of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConditionType {
    /// The parent has the value; `range` holds one.
    Equal,
    /// The parent has another value than those of `range`.
    NotEqual,
    /// The parent has one of the values of `range`.
    In,
}

impl ConditionType {
    /// All of them by their written names.
    pub const NAMES: [(&'static str, Self); 3] =
        [("EQUAL", Self::Equal), ("NOT_EQUAL", Self::NotEqual), ("IN", Self::In)];
}

/// A written space that means none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// A range that does not go with its type.
    #[error("`{key}`: `range` of {kind} must be {expected}")]
    Range {
        /// The parameter.
        key: String,
        /// Its type.
        kind: &'static str,
        /// What the range must be.
        expected: &'static str,
    },
    /// A step where there is none.
    #[error("`{key}`: {kind} has no `step`; only INT has")]
    Step {
        /// The parameter.
        key: String,
        /// Its type.
        kind: &'static str,
    },
    /// `EQUAL` with several values.
    #[error("`{child}` depends on `{parent}` being EQUAL to {count} values: name one, or write IN")]
    NotOne {
        /// The parameter that depends.
        child: String,
        /// On what.
        parent: String,
        /// How many values there are.
        count: usize,
    },
    /// A condition of no parameter.
    #[error("a condition is of `{child}`, which is no parameter of this space")]
    UnknownChild {
        /// The name.
        child: String,
    },
    /// Parameters that make no space.
    #[error(transparent)]
    Space(#[from] SpaceError),
}

impl HyperparameterSpec {
    /// The parameter's values.
    ///
    /// # Errors
    /// [`SpecError::Range`] or [`SpecError::Step`].
    pub fn domain(&self) -> Result<Domain, SpecError> {
        let wrong = |expected| SpecError::Range { key: self.key.clone(), kind: self.kind.name(), expected };
        if self.step.is_some() && self.kind != ParameterType::Int {
            return Err(SpecError::Step { key: self.key.clone(), kind: self.kind.name() });
        }
        let integers = |scale| match self.range.as_slice() {
            [ParamValue::Int(low), ParamValue::Int(high)] => {
                Ok(Domain::Int { low: *low, high: *high, step: self.step.unwrap_or(1), scale })
            }
            _ => Err(wrong("two whole numbers, the least and the most")),
        };
        let floats = |scale| match self.range.as_slice() {
            [low, high] => match (low.as_f64(), high.as_f64()) {
                (Some(low), Some(high)) => Ok(Domain::Float { low, high, scale }),
                _ => Err(wrong("two numbers, the least and the most")),
            },
            _ => Err(wrong("two numbers, the least and the most")),
        };
        match self.kind {
            ParameterType::Category if self.range.is_empty() => Err(wrong("a list of at least one value")),
            ParameterType::Category => Ok(Domain::Category(self.range.clone())),
            ParameterType::Bool => match self.range.iter().all(|value| value.as_bool().is_some()) {
                true if self.range.is_empty() => Ok(Domain::Category(vec![true.into(), false.into()])),
                true => Ok(Domain::Category(self.range.clone())),
                false => Err(wrong("left out, or list true and false")),
            },
            ParameterType::Int => integers(Scale::Linear),
            ParameterType::IntExp => integers(Scale::Log),
            ParameterType::Float => floats(Scale::Linear),
            ParameterType::FloatExp => floats(Scale::Log),
        }
    }
}

impl ConditionSpec {
    /// The condition.
    ///
    /// # Errors
    /// [`SpecError::NotOne`].
    pub fn condition(&self) -> Result<Condition, SpecError> {
        if self.kind == ConditionType::Equal && self.range.len() != 1 {
            let (child, parent, count) = (self.child.clone(), self.parent.clone(), self.range.len());
            return Err(SpecError::NotOne { child, parent, count });
        }
        let holds = if self.kind == ConditionType::NotEqual { Holds::NoneOf } else { Holds::OneOf };
        Ok(Condition { parent: self.parent.clone(), holds, values: self.range.clone() })
    }
}

impl TryFrom<SpaceSpec> for ParameterSpace {
    type Error = SpecError;

    fn try_from(spec: SpaceSpec) -> Result<Self, SpecError> {
        let mut parameters = Vec::new();
        for written in &spec.hyperparameters {
            parameters.push(Parameter::new(&written.key, written.domain()?));
        }
        for written in &spec.condition {
            let child = parameters.iter_mut().find(|parameter| parameter.name == written.child);
            let child = child.ok_or_else(|| SpecError::UnknownChild { child: written.child.clone() })?;
            child.conditions.push(written.condition()?);
        }
        Ok(ParameterSpace::new(parameters)?)
    }
}

impl From<&ParameterSpace> for SpaceSpec {
    fn from(space: &ParameterSpace) -> Self {
        let hyperparameters = space.parameters().iter().map(written);
        let condition = space.parameters().iter().flat_map(|child| {
            child.conditions.iter().map(|condition| ConditionSpec {
                key: None,
                child: child.name.clone(),
                parent: condition.parent.clone(),
                kind: match condition.holds {
                    Holds::NoneOf => ConditionType::NotEqual,
                    Holds::OneOf if condition.values.len() == 1 => ConditionType::Equal,
                    Holds::OneOf => ConditionType::In,
                },
                range: condition.values.clone(),
            })
        });
        Self { hyperparameters: hyperparameters.collect(), condition: condition.collect() }
    }
}

fn written(parameter: &Parameter) -> HyperparameterSpec {
    let bound = |value: f64| ParamValue::float(value);
    let (kind, range, step) = match &parameter.domain {
        Domain::Category(values) => (ParameterType::Category, values.clone(), None),
        Domain::Int { low, high, step, scale } => {
            let kind = if *scale == Scale::Log { ParameterType::IntExp } else { ParameterType::Int };
            (kind, vec![ParamValue::Int(*low), ParamValue::Int(*high)], Some(*step).filter(|step| *step != 1))
        }
        Domain::Float { low, high, scale } => {
            let kind = if *scale == Scale::Log { ParameterType::FloatExp } else { ParameterType::Float };
            (kind, [bound(*low), bound(*high)].into_iter().flatten().collect(), None)
        }
    };
    HyperparameterSpec { key: parameter.name.clone(), kind, range, step }
}

impl<'de> Deserialize<'de> for ParameterSpace {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SpaceSpec::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ParameterSpace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SpaceSpec::from(self).serialize(serializer)
    }
}
