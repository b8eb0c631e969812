//! [`ParameterSpace`]: named parameters, some of which are active only where others have given values. What comes in is
//! checked once; then every candidate that comes out is complete and valid.

use std::collections::BTreeMap;

use super::assignment::Assignment;
use super::domain::Domain;
use super::error::{AssignmentError, SpaceError};
use super::value::ParamValue;

/// A named parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Its values.
    pub domain: Domain,
    /// When it is active: where all of these hold. Without any, always.
    pub conditions: Vec<Condition>,
}

impl Parameter {
    /// A parameter that is always active.
    pub fn new(name: impl Into<String>, domain: Domain) -> Self {
        Self { name: name.into(), domain, conditions: Vec::new() }
    }
}

/// What must be so for a parameter to be active. One whose parent is itself not active never holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The parameter that is looked at.
    pub parent: String,
    /// Whether its value must be one of `values` or must not.
    pub holds: Holds,
    /// The values; at least one.
    pub values: Vec<ParamValue>,
}

/// How a condition's values count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The parent has one of them.
    OneOf,
    /// The parent has another value.
    NoneOf,
}

impl Condition {
    /// Whether it holds of a parent that is active and has this value.
    fn holds_of(&self, value: &ParamValue) -> bool {
        self.values.contains(value) == (self.holds == Holds::OneOf)
    }
}

/// A space of named parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpace {
    /// As they were given.
    parameters: Vec<Parameter>,
    /// Their numbers, each after those that it depends on.
    order: Vec<usize>,
    /// The numbers by name.
    numbers: BTreeMap<String, usize>,
    /// For each, its conditions' parents, by number.
    parents: Vec<Vec<usize>>,
}

/// A candidate in the making: the values by the parameters' numbers.
pub(super) type Values = Vec<Option<ParamValue>>;

impl ParameterSpace {
    /// The space of these parameters.
    ///
    /// # Errors
    /// See [`SpaceError`].
    pub fn new(parameters: Vec<Parameter>) -> Result<Self, SpaceError> {
        if parameters.is_empty() {
            return Err(SpaceError::NoParameters);
        }
        let mut numbers = BTreeMap::new();
        for (number, parameter) in parameters.iter().enumerate() {
            let name = &parameter.name;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(SpaceError::Name { name: name.clone() });
            }
            if numbers.insert(name.clone(), number).is_some() {
                return Err(SpaceError::Twice { name: name.clone() });
            }
            parameter.domain.check().map_err(|why| SpaceError::Domain { name: name.clone(), why })?;
        }
        let parents = parameters.iter().map(|child| parents_of(child, &parameters, &numbers));
        let parents: Vec<Vec<usize>> = parents.collect::<Result<_, _>>()?;
        let order = in_order(&parameters, &parents)?;
        Ok(Self { parameters, order, numbers, parents })
    }

    /// The parameters, as they were given.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.numbers.get(name).map(|number| &self.parameters[*number])
    }

    /// How many candidates there are at most, conditions left aside; `None` where a float makes them countless.
    pub fn count(&self) -> Option<u64> {
        self.parameters.iter().try_fold(1_u64, |all, parameter| Some(all.saturating_mul(parameter.domain.count()?)))
    }

    /// `values` as a candidate: each active parameter has a value of its domain, and no other parameter has one. An integer
    /// where a float is asked for becomes one.
    ///
    /// # Errors
    /// See [`AssignmentError`].
    pub fn accept(&self, values: &Assignment) -> Result<Assignment, AssignmentError> {
        if let Some((name, _)) = values.iter().find(|(name, _)| !self.numbers.contains_key(*name)) {
            return Err(AssignmentError::Unknown { name: name.to_owned() });
        }
        let mut accepted: Values = vec![None; self.parameters.len()];
        for &number in &self.order {
            let Parameter { name, domain, .. } = &self.parameters[number];
            match (self.is_active(number, &accepted), values.get(name)) {
                (true, Some(value)) => {
                    let outside = || AssignmentError::Outside { name: name.clone(), value: value.clone() };
                    accepted[number] = Some(domain.accept(value).ok_or_else(outside)?);
                }
                (true, None) => return Err(AssignmentError::Missing { name: name.clone() }),
                (false, Some(_)) => return Err(AssignmentError::Inactive { name: name.clone() }),
                (false, None) => {}
            }
        }
        Ok(self.assignment(accepted))
    }

    /// Whether the parameter is active beside the values of those that it depends on.
    fn is_active(&self, number: usize, values: &Values) -> bool {
        let conditions = self.parameters[number].conditions.iter().zip(&self.parents[number]);
        conditions
            .into_iter()
            .all(|(condition, parent)| values[*parent].as_ref().is_some_and(|value| condition.holds_of(value)))
    }

    /// The candidate in which each active parameter has the value that `value` gives it, asked in an order in which what it
    /// depends on is known.
    pub(super) fn complete(&self, mut value: impl FnMut(usize, &Parameter) -> ParamValue) -> Assignment {
        let mut values: Values = vec![None; self.parameters.len()];
        for &number in &self.order {
            if self.is_active(number, &values) {
                values[number] = Some(value(number, &self.parameters[number]));
            }
        }
        self.assignment(values)
    }

    fn assignment(&self, values: Values) -> Assignment {
        let pairs = self.parameters.iter().zip(values);
        pairs.filter_map(|(parameter, value)| Some((parameter.name.clone(), value?))).collect()
    }
}

/// The numbers of the parameters that `child` depends on, one for each condition.
fn parents_of(
    child: &Parameter,
    parameters: &[Parameter],
    numbers: &BTreeMap<String, usize>,
) -> Result<Vec<usize>, SpaceError> {
    let parent = |condition: &Condition| {
        let (child, parent) = (child.name.clone(), condition.parent.clone());
        let Some(&number) = numbers.get(&parent) else {
            let known = numbers.keys().filter(|name| **name != child).cloned().collect();
            return Err(SpaceError::UnknownParent { child, parent, known });
        };
        let domain = &parameters[number].domain;
        if let Domain::Float { .. } = domain {
            return Err(SpaceError::FloatParent { child, parent });
        }
        match condition.values.iter().find(|value| !domain.contains(value)) {
            Some(value) => return Err(SpaceError::NeverIs { child, parent, value: value.clone() }),
            None if condition.values.is_empty() => return Err(SpaceError::NeverActive { child, parent }),
            None => {}
        }
        let distinct =
            condition.values.iter().enumerate().filter(|(at, value)| !condition.values[..*at].contains(value));
        if condition.holds == Holds::NoneOf && Some(distinct.count() as u64) == domain.count() {
            return Err(SpaceError::NeverActive { child, parent });
        }
        Ok(number)
    };
    child.conditions.iter().map(parent).collect()
}

/// The parameters' numbers, each after those that it depends on; among those that are free, in the order given.
fn in_order(parameters: &[Parameter], parents: &[Vec<usize>]) -> Result<Vec<usize>, SpaceError> {
    let mut order = Vec::with_capacity(parameters.len());
    let mut done = vec![false; parameters.len()];
    while order.len() < parameters.len() {
        let is_free = |number: &usize| !done[*number] && parents[*number].iter().all(|parent| done[*parent]);
        match (0..parameters.len()).find(is_free) {
            Some(number) => {
                done[number] = true;
                order.push(number);
            }
            None => return Err(cycle(parameters, parents, &done)),
        }
    }
    Ok(order)
}

/// The circle that is left when nothing is free any more.
fn cycle(parameters: &[Parameter], parents: &[Vec<usize>], done: &[bool]) -> SpaceError {
    // Each that is left depends on another that is left: following those leads into a circle.
    let mut way: Vec<usize> = done.iter().position(|done| !done).into_iter().collect();
    while let Some(&last) = way.last() {
        let Some(&next) = parents[last].iter().find(|parent| !done[**parent]) else { break };
        if let Some(start) = way.iter().position(|number| *number == next) {
            way.drain(..start);
            way.push(next);
            break;
        }
        way.push(next);
    }
    SpaceError::Cycle { names: way.into_iter().map(|number| parameters[number].name.clone()).collect() }
}

#[cfg(test)]
pub(super) mod tests;
