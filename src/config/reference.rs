//! Vega's `ref: step.section`: a second-level section that begins as another step's section. References resolve to
//! resolved sections, so chains work; a circle or a missing target is an error.

use std::collections::BTreeMap;

use super::error::ProblemKind;
use super::source::Place;
use super::yaml::{Entry, Node, Value};

/// Keys that a reference does not bring along (Vega's own list, misspelling included).
const NOT_INHERITED: [&str; 6] =
    ["callbacks", "lazy_built", "max_train_steps", "with_train", "with_vaild", "with_valid"];
/// Keys whose local value replaces the referenced one whole; other mappings are merged key by key.
const REPLACED_WHOLE: [&str; 7] = ["loss", "metric", "lr_scheduler", "optim", "model_desc", "transforms", "ref"];

/// Longest chain of references.
const MAX_CHAIN: usize = 32;
/// Most nodes that references may copy in all: a small file must not become a large tree.
const MAX_COPIED: usize = 200_000;

/// The tree with every reference replaced by what it stands for.
pub(crate) fn resolve(root: &Node, problems: &mut Vec<(ProblemKind, Place)>) -> Node {
    let mut resolver = Resolver { root, done: BTreeMap::new(), open: Vec::new(), left: MAX_COPIED, problems };
    let mut root = root.clone();
    if let Value::Map(steps) = &mut root.value {
        for step in steps {
            let name = step.key.clone();
            let Value::Map(sections) = &mut step.node.value else { continue };
            for section in sections {
                if section.node.get("ref").is_some() {
                    section.node = resolver.section(&name, &section.key, &section.node);
                }
            }
        }
    }
    root
}

struct Resolver<'a> {
    root: &'a Node,
    done: BTreeMap<(String, String), Node>,
    /// The sections being resolved, outermost first: one that is met again closes a circle.
    open: Vec<(String, String)>,
    /// How many nodes may still be copied.
    left: usize,
    problems: &'a mut Vec<(ProblemKind, Place)>,
}

impl Resolver<'_> {
    fn section(&mut self, step: &str, section: &str, node: &Node) -> Node {
        let Some(reference) = node.get("ref") else { return node.clone() };
        let id = (step.to_owned(), section.to_owned());
        if let Some(done) = self.done.get(&id) {
            return done.clone();
        }
        let base = self.target(&id, reference);
        let resolved = match base {
            Ok(base) => inherit(&base, node),
            Err(why) => {
                let target = match &reference.value {
                    Value::Text(text) => text.clone(),
                    _ => reference.written.clone(),
                };
                self.problems.push((ProblemKind::Reference { target, why }, reference.place));
                let local = node.entries().iter().filter(|entry| entry.key != "ref").cloned().collect();
                Node { value: Value::Map(local), ..node.clone() }
            }
        };
        self.done.insert(id, resolved.clone());
        resolved
    }

    fn target(&mut self, id: &(String, String), reference: &Node) -> Result<Node, String> {
        let Value::Text(target) = &reference.value else {
            return Err("must name a section, as in `ref: fine_tune.trainer`".to_owned());
        };
        let Some((step, section)) = target.split_once('.') else {
            return Err("must name a step and a section, as in `ref: fine_tune.trainer`".to_owned());
        };
        let root = self.root;
        let Some(there) = root.get(step) else { return Err(format!("leads nowhere: there is no step `{step}`")) };
        let Some(node) = there.get(section) else {
            return Err(format!("leads nowhere: step `{step}` has no section `{section}`"));
        };
        self.open.push(id.clone());
        let result = if self.open.iter().any(|(s, n)| s == step && n == section) {
            Err("leads round in a circle".to_owned())
        } else if self.open.len() > MAX_CHAIN {
            Err(format!("is the end of a chain of more than {MAX_CHAIN} references"))
        } else if size(node) > self.left {
            Err("makes the configuration too large".to_owned())
        } else {
            self.left -= size(node);
            Ok(self.section(step, section, node))
        };
        self.open.pop();
        result
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum(),
        _ => 0,
    }
}

/// `local` over what it inherits from `base`.
fn inherit(base: &Node, local: &Node) -> Node {
    let inherited: Vec<Entry> =
        base.entries().iter().filter(|entry| !NOT_INHERITED.contains(&entry.key.as_str())).cloned().collect();
    let own: Vec<Entry> = local.entries().iter().filter(|entry| entry.key != "ref").cloned().collect();
    let base = Node { value: Value::Map(inherited), ..base.clone() };
    let local = Node { value: Value::Map(own), ..local.clone() };
    overlay(&base, &local)
}

fn overlay(base: &Node, local: &Node) -> Node {
    let (Value::Map(below), Value::Map(above)) = (&base.value, &local.value) else { return local.clone() };
    let mut entries = below.clone();
    for entry in above {
        match entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => {
                let whole = REPLACED_WHOLE.contains(&entry.key.as_str());
                let node = if whole { entry.node.clone() } else { overlay(&known.node, &entry.node) };
                *known = Entry { node, ..entry.clone() };
            }
            None => entries.push(entry.clone()),
        }
    }
    Node { value: Value::Map(entries), ..local.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::SourceId;
    use crate::config::yaml;

    fn resolved(text: &str) -> (Node, Vec<String>) {
        let mut problems = Vec::new();
        let tree = resolve(&yaml::parse(text, SourceId(0)).unwrap(), &mut problems);
        (tree, problems.into_iter().map(|(kind, _)| kind.to_string()).collect())
    }

    #[test]
    fn a_reference_merges_below_the_local_keys_and_leaves_out_what_vega_leaves_out() {
        let (tree, problems) = resolved(
            "a:\n  trainer:\n    epochs: 1\n    with_train: no\n    callbacks: X\n    optimizer: {type: SGD, params: {lr: 1, momentum: 2}}\n    lr_scheduler: {type: A, params: {x: 1}}\n\
             b:\n  trainer:\n    ref: c.trainer\n    epochs: 3\n    optimizer: {params: {lr: 9}}\n    lr_scheduler: {type: B}\n\
             c:\n  trainer: {ref: a.trainer}\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        let trainer = tree.get("b").and_then(|b| b.get("trainer")).unwrap();
        assert_eq!(trainer.get("epochs").unwrap().value, Value::Int(3));
        assert!(trainer.get("with_train").is_none() && trainer.get("callbacks").is_none());
        let params = trainer.get("optimizer").and_then(|o| o.get("params")).unwrap();
        assert_eq!(params.get("lr").unwrap().value, Value::Int(9));
        assert_eq!(params.get("momentum").unwrap().value, Value::Int(2));
        assert!(trainer.get("lr_scheduler").unwrap().get("params").is_none(), "replaced whole");
        assert!(trainer.get("ref").is_none());
    }

    #[test]
    fn a_reference_that_leads_nowhere_or_in_a_circle_is_an_error() {
        for (text, expected) in [
            ("a: {t: {ref: b.t}}\n", "no step `b`"),
            ("a: {t: {ref: a.u}}\n", "no section `u`"),
            ("a: {t: {ref: b.t}}\nb: {t: {ref: a.t}}\n", "circle"),
            ("a: {t: {ref: a.t}}\n", "circle"),
            ("a: {t: {ref: 7}}\n", "must name"),
        ] {
            let (_, problems) = resolved(text);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        }
    }
}
