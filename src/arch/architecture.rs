//! A whole architecture, the candidate of every search and training: a serial backbone, and if wanted a parallel part
//! beside it and an order of the neck's outputs. A plain serial backbone, as older files hold it, reads as one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::grammar::{Grammar, OneLine};
use super::parallel::{NeckCode, Parallel, ParallelError};
use super::serial::{SerialBackbone, Stem};

/// What a network is built from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedArchitecture")]
pub struct Architecture {
    /// The main path.
    #[serde(flatten)]
    pub serial: SerialBackbone,
    /// Extra sub-networks beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Parallel>,
    /// The order of the neck's outputs; `None`: one a stage, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neck: Option<NeckCode>,
    /// How often the backbone, or one that it grew from, has been trained as a classifier. It changes no shape.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reignitions: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// An architecture as a file has it.
#[derive(Deserialize)]
struct UncheckedArchitecture {
    #[serde(flatten)]
    serial: SerialBackbone,
    #[serde(default)]
    parallel: Option<Parallel>,
    #[serde(default)]
    neck: Option<NeckCode>,
    #[serde(default)]
    reignitions: u32,
}

impl TryFrom<UncheckedArchitecture> for Architecture {
    type Error = ArchitectureError;

    fn try_from(unchecked: UncheckedArchitecture) -> Result<Self, ArchitectureError> {
        let UncheckedArchitecture { serial, parallel, neck, reignitions } = unchecked;
        let architecture = Self { serial, parallel, neck, reignitions };
        architecture.check().map(|()| architecture)
    }
}

impl From<SerialBackbone> for Architecture {
    fn from(serial: SerialBackbone) -> Self {
        Self { serial, parallel: None, neck: None, reignitions: 0 }
    }
}

impl Architecture {
    /// Whether parallel part and neck fit the stages. Everything that counts or builds a network asks this first.
    ///
    /// # Errors
    /// The part that is for another number of stages.
    pub fn check(&self) -> Result<(), ArchitectureError> {
        let stages = self.serial.sequence.stage_count();
        if let Some(covered) = self.parallel.as_ref().map(Parallel::stage_count).filter(|covered| *covered != stages) {
            return Err(ArchitectureError::Parallel { covered, stages });
        }
        match self.neck.as_ref().map(|neck| neck.levels().len()).filter(|levels| *levels != stages) {
            Some(levels) => Err(ArchitectureError::Neck { levels, stages }),
            None => Ok(()),
        }
    }

    /// The parallel part, where there is an extra sub-network in it.
    pub fn branches(&self) -> Option<&Parallel> {
        self.parallel.as_ref().filter(|parallel| !parallel.is_serial())
    }

    /// The order of the neck, where it is not the plain one.
    pub fn reordered_neck(&self) -> Option<&NeckCode> {
        self.neck.as_ref().filter(|neck| !neck.is_identity())
    }

    /// What makes two architectures the same to train: code (in Vega's grammar), block, stem and base width, parallel
    /// part and neck where they make a difference. The ids of the blocks are no part of it. Examples:
    /// `vega:111-2111-211111-211/bottleneck/7x7/64`, `vega:11-21/basic/7x7/64/parallel:1-0(shared)/neck:0-0`.
    pub fn key(&self) -> String {
        let mut key = serial_key(&self.serial);
        if let Some(parallel) = self.branches() {
            key.push_str(&format!("/parallel:{}", parallel.canonical()));
        }
        if let Some(neck) = self.reordered_neck() {
            key.push_str(&format!("/neck:{neck}"));
        }
        key
    }

    /// For a log line: the serial code with its grammar, then parallel part and neck where there are any, such as
    /// `vega:111-2111-211111-211_0-0-2-0(shared)_neck:0-0-2-1`.
    pub fn code(&self) -> ArchitectureCode<'_> {
        ArchitectureCode(self)
    }

    /// The network that a one-line encoding names, which says nothing of stem, base width and shared weights.
    ///
    /// # Errors
    /// Too many extra sub-networks.
    pub fn of_line(line: OneLine, stem: Stem, base_width: u32, share_weights: bool) -> Result<Self, ArchitectureError> {
        let OneLine { block, sequence, parallel } = line;
        let parallel = if parallel.is_empty() { None } else { Some(Parallel::new(&[], &parallel, share_weights)?) };
        let serial = SerialBackbone { sequence, block, stem, base_width };
        let architecture = Self { serial, parallel, neck: None, reignitions: 0 };
        architecture.check().map(|()| architecture)
    }

    /// The one-line encoding, all zeros for a serial network; `None` where groups have several stages, which it cannot
    /// write. Neck, stem, base width and shared weights are not in it.
    pub fn line(&self) -> Option<OneLine> {
        let stages = self.serial.sequence.stage_count();
        let parallel = match self.branches() {
            None => vec![0; stages],
            Some(parallel) => Some(parallel.canonical()).filter(Parallel::is_per_stage)?.extra(),
        };
        Some(OneLine { block: self.serial.block, sequence: self.serial.sequence.clone(), parallel })
    }
}

/// What makes two serial backbones the same to train; see [`Architecture::key`].
pub fn serial_key(backbone: &SerialBackbone) -> String {
    let SerialBackbone { sequence, block, stem, base_width } = backbone;
    format!("{}/{block}/{stem}/{base_width}", Grammar::Vega.code(sequence))
}

/// An architecture as people read it in logs; see [`Architecture::code`].
#[derive(Debug, Clone, Copy)]
pub struct ArchitectureCode<'a>(&'a Architecture);

impl fmt::Display for ArchitectureCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Architecture { serial, parallel, neck, .. } = self.0;
        Grammar::Vega.code(&serial.sequence).fmt(f)?;
        if let Some(parallel) = parallel {
            write!(f, "_{parallel}")?;
        }
        if let Some(neck) = neck {
            write!(f, "_neck:{neck}")?;
        }
        Ok(())
    }
}

/// Parts that do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchitectureError {
    /// The parallel part is for another number of stages.
    #[error("the parallel part covers {covered} stages of a backbone that has {stages}")]
    Parallel {
        /// Stages of its groups.
        covered: usize,
        /// Stages of the backbone.
        stages: usize,
    },
    /// The neck's code is for another number of stages.
    #[error("the neck's code has {levels} entries for a backbone of {stages} stages: write one a stage")]
    Neck {
        /// Its entries.
        levels: usize,
        /// Stages of the backbone.
        stages: usize,
    },
    /// The parallel part is malformed by itself.
    #[error(transparent)]
    Malformed(#[from] ParallelError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::serial::BlockKind;

    fn plain(code: &str) -> Architecture {
        let sequence = Grammar::Vega.parse(code).unwrap();
        SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 16 }.into()
    }

    fn with(code: &str, groups: &[u32], extra: &[u32], share: bool, neck: Option<&[u32]>) -> Architecture {
        Architecture {
            parallel: Some(Parallel::new(groups, extra, share).unwrap()),
            neck: neck.map(|levels| NeckCode::new(levels.to_vec()).unwrap()),
            ..plain(code)
        }
    }

    #[test]
    fn an_old_description_of_a_serial_backbone_reads_and_a_plain_one_is_written_like_it() {
        let plain = plain("11-21-2");
        let old = serde_json::to_string(&plain.serial).unwrap();
        assert_eq!(serde_json::from_str::<Architecture>(&old).unwrap(), plain);
        assert_eq!(serde_json::to_string(&plain).unwrap(), old);
    }

    #[test]
    fn a_description_reads_as_it_was_written_and_parts_that_do_not_fit_are_refused() {
        let whole = with("11-21-2", &[2, 1], &[1, 3], true, Some(&[0, 0, 2]));
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), whole);
        assert!(serde_json::from_str::<Architecture>(&json.replace("[2,1]", "[1,1]")).is_err());
        assert!(serde_json::from_str::<Architecture>(&json.replace("[0,0,2]", "[0,0,2,3]")).is_err());
    }

    #[test]
    fn keys_are_equal_where_the_networks_are() {
        let code = "11-21-2";
        let same = [
            (plain(code), with(code, &[], &[0, 0, 0], true, Some(&[0, 1, 2]))),
            (plain(code), with(code, &[3], &[0], false, None)),
            (with(code, &[2, 1], &[0, 1], false, None), with(code, &[], &[0, 0, 1], false, None)),
        ];
        for (one, other) in same {
            assert_eq!(one.key(), other.key());
        }
        let different = [
            plain(code),
            with(code, &[], &[0, 0, 1], false, None),
            with(code, &[], &[0, 0, 1], true, None),
            with(code, &[], &[0, 1, 0], true, None),
            with(code, &[2, 1], &[1, 0], false, None),
            with(code, &[], &[1, 1, 0], false, None),
            with(code, &[], &[1, 1, 0], false, Some(&[0, 0, 2])),
        ];
        let keys: std::collections::BTreeSet<String> = different.iter().map(Architecture::key).collect();
        assert_eq!(keys.len(), different.len(), "{keys:?}");
        assert_eq!(plain(code).key(), "vega:11-21-2/basic/7x7/16");
        assert_eq!(
            with(code, &[], &[1, 0, 0], true, Some(&[0, 0, 2])).code().to_string(),
            "vega:11-21-2_1-0-0(shared)_neck:0-0-2"
        );
    }

    #[test]
    fn a_one_line_encoding_names_an_architecture_and_back() {
        for text in ["r_11121111-21111-112-1111-1111_0-0-2-0-3", "b_11-2_1-0", "x(32x4d)_11-2_0-0"] {
            let line: OneLine = text.parse().unwrap();
            let architecture = Architecture::of_line(line, Stem::SevenBySeven, 64, true).unwrap();
            assert_eq!(architecture.line().unwrap().to_string(), text);
        }
        assert_eq!(with("11-21-2", &[2, 1], &[1, 0], true, None).line(), None);
    }
}
