//! Which of a checkpoint's tensors are the network's. In: a pickle's values. Out: names and views of one dictionary.

use std::collections::BTreeMap;

use super::fault::{Fault, Flaw, Result};
use super::pickle::Pickle;
use super::value::{Id, Value, View};

/// Keys under which checkpoints hold the weights beside an optimiser's state and the like, in order of preference
/// (`weight`: Vega).
const NESTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "weight", "weights"];

/// Deepest nesting that is looked through.
const MAX_NESTS: usize = 8;

/// The tensors of the state dict. `at` is the pickle's offset, for messages.
pub(super) fn tensors<'p, 'a>(pickle: &'p Pickle<'a>, at: u64) -> Result<BTreeMap<&'a str, &'p View<'a>>> {
    let absent = |what: String| Flaw::new(at, Fault::NoStateDict(what));
    let mut id = pickle.root();
    for _ in 0..MAX_NESTS {
        let Value::Dict(dict) = pickle.get(id) else {
            return Err(absent("the file holds something other than a dictionary".to_owned()));
        };
        match nested(pickle, dict) {
            Some(inner) => id = inner,
            None => return named(pickle, dict, absent),
        }
    }
    Err(absent(format!("dictionaries nested deeper than {MAX_NESTS}")))
}

/// A dictionary under one of the usual keys.
fn nested(pickle: &Pickle<'_>, dict: &[(Id, Id)]) -> Option<Id> {
    let inner = NESTS.iter().filter_map(|key| pickle.entry(dict, key));
    inner.into_iter().find(|&id| matches!(pickle.get(id), Value::Dict(_)))
}

fn named<'p, 'a>(
    pickle: &'p Pickle<'a>,
    dict: &[(Id, Id)],
    absent: impl Fn(String) -> Flaw,
) -> Result<BTreeMap<&'a str, &'p View<'a>>> {
    let mut tensors = BTreeMap::new();
    for &(key, value) in dict {
        match (pickle.get(key), pickle.get(value)) {
            (&Value::Text(name), Value::Tensor(view)) => {
                tensors.insert(name, &**view);
            }
            (_, Value::Tensor(_)) => return Err(absent("a tensor's name is no text".to_owned())),
            (&Value::Text(name), Value::Dict(_) | Value::List(_)) => {
                let name: String = name.chars().take(80).collect();
                return Err(absent(format!("{name:?} holds more than one value where tensors are expected")));
            }
            _ => {}
        }
    }
    if tensors.is_empty() {
        let usual = NESTS.join(", ");
        return Err(absent(format!("no tensor in it, nor a dictionary under any of the keys {usual}")));
    }
    Ok(tensors)
}
