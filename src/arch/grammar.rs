//! The two spellings of a serial sequence. Text comes in and a [`SerialSequence`] goes out, and back; nothing else of the
//! program looks into a code's characters.
//!
//! Both grammars write a block as `1` or `2`, with `-` between runs of blocks, and mean opposite things by it:
//!
//! | | `1` | `2` | `-` |
//! |---|---|---|---|
//! | [`Grammar::Vega`] (the code of `spnas.yml`) | stride 1 | stride 2 | the next block doubles the width |
//! | [`Grammar::Paper`] (the authors' first code) | keeps the width | doubles the width | the next block has stride 2 |
//!
//! `111-2111-211111-211` is ResNet-50 in both. Any sequence can be written in either: where the very first block carries
//! the mark that `-` stands for (it doubles in Vega's grammar, or down-samples in the paper's), the code begins
//! with `-`. Two dashes never meet, and no code ends with one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::serial::{Block, BlockId, BlockKind, SerialSequence, UnknownName, groups_by_width};

/// How a code is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grammar {
    /// A digit is the block's stride; `-` says that the next block doubles.
    Vega,
    /// `1` keeps the width, `2` doubles it; `-` says that the next block down-samples.
    Paper,
}

impl Grammar {
    /// The sequence that `code` spells; its blocks get the ids 0, 1, ….
    ///
    /// # Errors
    /// The first character that cannot stand where it does, and what could.
    pub fn parse(self, code: &str) -> Result<SerialSequence, ParseError> {
        self.parse_at(code, 0, code)
    }

    /// Parses `code`, which begins at character `offset` of `text`.
    fn parse_at(self, text: &str, offset: usize, code: &str) -> Result<SerialSequence, ParseError> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut after_dash = false;
        let wrong = |at: usize, found: Option<char>, after_dash: bool| ParseError {
            text: text.to_owned(),
            position: offset + at + 1,
            found,
            allowed: if after_dash { self.blocks_allowed() } else { self.all_allowed() },
        };
        for (at, found) in code.chars().enumerate() {
            match found {
                '1' | '2' => {
                    let id = BlockId(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
                    blocks.push(self.block(id, found == '2', after_dash));
                    after_dash = false;
                }
                '-' if !after_dash => after_dash = true,
                _ => return Err(wrong(at, Some(found), after_dash)),
            }
        }
        let end = wrong(code.chars().count(), None, after_dash);
        if after_dash {
            return Err(end);
        }
        // Only an empty code is refused here: the ids are distinct by construction.
        SerialSequence::new(blocks).ok_or(end)
    }

    /// The code of `sequence`; the blocks' ids are not written.
    pub fn print(self, sequence: &SerialSequence) -> String {
        let mut code = String::with_capacity(2 * sequence.depth());
        for block in sequence.blocks() {
            let (two, dash) = match self {
                Grammar::Vega => (block.down_samples, block.doubles),
                Grammar::Paper => (block.doubles, block.down_samples),
            };
            if dash {
                code.push('-');
            }
            code.push(if two { '2' } else { '1' });
        }
        code
    }

    /// `sequence` for a log line: its code, never without the grammar.
    pub fn code(self, sequence: &SerialSequence) -> Code<'_> {
        Code { grammar: self, sequence }
    }

    fn block(self, id: BlockId, two: bool, dash: bool) -> Block {
        match self {
            Grammar::Vega => Block { id, down_samples: two, doubles: dash },
            Grammar::Paper => Block { id, down_samples: dash, doubles: two },
        }
    }

    fn blocks_allowed(self) -> &'static str {
        match self {
            Grammar::Vega => "`1` (a block of stride 1) or `2` (of stride 2)",
            Grammar::Paper => "`1` (a block that keeps the width) or `2` (that doubles it)",
        }
    }

    fn all_allowed(self) -> &'static str {
        match self {
            Grammar::Vega => "`1` (a block of stride 1), `2` (of stride 2) or `-` (the next block doubles the width)",
            Grammar::Paper => {
                "`1` (a block that keeps the width), `2` (that doubles it) or `-` (the next block has stride 2)"
            }
        }
    }
}

/// `vega` or `paper`.
impl fmt::Display for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Grammar::Vega => "vega",
            Grammar::Paper => "paper",
        })
    }
}

impl FromStr for Grammar {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "vega" => Ok(Grammar::Vega),
            "paper" => Ok(Grammar::Paper),
            _ => Err(UnknownName { what: "grammar", text: text.to_owned(), allowed: "vega or paper" }),
        }
    }
}

/// A sequence as people read it in logs: `vega:111-2111-211111-211`.
#[derive(Debug, Clone, Copy)]
pub struct Code<'a> {
    grammar: Grammar,
    sequence: &'a SerialSequence,
}

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.grammar, self.grammar.print(self.sequence))
    }
}

/// The authors' first one-line encoding, `<block>_<serial>[_<parallel>]`: the block is `r` (bottleneck), `b` (basic) or
/// `x(32x4d)` (ResNeXt), the serial part is in [`Grammar::Paper`], and the parallel part, which may be missing, has
/// one number a stage. Example: `r_111-2111-211111-211_0-0-0-0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneLine {
    /// The block kind.
    pub block: BlockKind,
    /// The serial part.
    pub sequence: SerialSequence,
    /// Extra sub-networks of each stage; as many as stages, or none where the part is missing.
    pub parallel: Vec<u32>,
}

impl FromStr for OneLine {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |position: usize, allowed| ParseError {
            text: text.to_owned(),
            position,
            found: text.chars().nth(position - 1),
            allowed,
        };
        let (prefix, rest) = text
            .split_once('_')
            .ok_or_else(|| wrong(text.chars().count() + 1, "`_` between block, serial and parallel part"))?;
        let kind = block_of_prefix(prefix).ok_or_else(|| wrong(1, "`r_`, `b_` or `x(GROUPSxWIDTHd)_`"))?;
        let (serial, parallel) = rest.split_once('_').map_or((rest, None), |(serial, rest)| (serial, Some(rest)));
        let serial_from = prefix.chars().count() + 1;
        let sequence = Grammar::Paper.parse_at(text, serial_from, serial)?;
        let parallel = match parallel {
            None => Vec::new(),
            Some(part) => {
                let from = serial_from + serial.chars().count() + 1;
                let numbers = parse_numbers(text, from, part)?;
                if numbers.len() != sequence.stage_count() {
                    return Err(wrong(from + 1, "one whole number a stage, with `-` between them"));
                }
                numbers
            }
        };
        Ok(Self { block: kind, sequence, parallel })
    }
}

impl fmt::Display for OneLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            BlockKind::Basic => f.write_str("b")?,
            BlockKind::Bottleneck => f.write_str("r")?,
            BlockKind::ResNeXt { groups, width } => write!(f, "x({groups}x{width}d)")?,
        }
        write!(f, "_{}", Grammar::Paper.print(&self.sequence))?;
        for (at, number) in self.parallel.iter().enumerate() {
            write!(f, "{}{number}", if at == 0 { '_' } else { '-' })?;
        }
        Ok(())
    }
}

/// The parallel part of a code by itself: one number of extra sub-networks a group, with `-` between them.
///
/// # Errors
/// The first character that cannot stand where it does.
pub fn parse_parallel(code: &str) -> Result<Vec<u32>, ParseError> {
    parse_numbers(code, 0, code)
}

/// Parses whole numbers with `-` between them; `part` begins at character `offset` of `text`.
fn parse_numbers(text: &str, offset: usize, part: &str) -> Result<Vec<u32>, ParseError> {
    let mut numbers = Vec::new();
    let mut at = offset;
    for word in part.split('-') {
        let wrong = |at: usize, found, allowed| ParseError { text: text.to_owned(), position: at + 1, found, allowed };
        if let Some((place, found)) = word.chars().enumerate().find(|(_, found)| !found.is_ascii_digit()) {
            return Err(wrong(at + place, Some(found), "a digit or `-`"));
        }
        let after = at + word.len();
        let next = text.chars().nth(after);
        if word.is_empty() {
            return Err(wrong(after, next, "a digit"));
        }
        let found = text.chars().nth(at);
        numbers.push(word.parse().map_err(|_| wrong(at, found, "a number below 2^32"))?);
        at = after + 1;
    }
    Ok(numbers)
}

fn block_of_prefix(prefix: &str) -> Option<BlockKind> {
    match prefix {
        "b" => Some(BlockKind::Basic),
        "r" => Some(BlockKind::Bottleneck),
        _ => {
            let numbers = prefix.strip_prefix("x(")?.strip_suffix(')')?;
            let (groups, width) = groups_by_width(numbers)?;
            Some(BlockKind::ResNeXt { groups, width })
        }
    }
}

/// A character that cannot stand where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The whole text.
    pub text: String,
    /// The character's position, counted from 1.
    pub position: usize,
    /// The character; `None` at the end of the text.
    pub found: Option<char>,
    /// What could stand there.
    pub allowed: &'static str,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, position, found, allowed } = self;
        match found {
            Some(found) => write!(f, "code `{text}`: `{found}` at character {position}, where {allowed} may stand"),
            None => write!(f, "code `{text}` ends at character {position}, where {allowed} must stand"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any sequence: up to 70 blocks, with any marks, ids 0, 1, ….
    pub(crate) fn any_sequence() -> impl Strategy<Value = SerialSequence> {
        proptest::collection::vec((any::<bool>(), any::<bool>()), 1..70).prop_map(|marks| {
            let block = |(id, (down_samples, doubles))| Block { id: BlockId(id), down_samples, doubles };
            SerialSequence::new((0..).zip(marks).map(block).collect()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn any_sequence_prints_in_either_grammar_and_parses_back(sequence in any_sequence()) {
            for grammar in [Grammar::Vega, Grammar::Paper] {
                prop_assert_eq!(grammar.parse(&grammar.print(&sequence)), Ok(sequence.clone()));
            }
        }

        #[test]
        fn any_text_parses_to_something_that_prints_as_it_or_is_an_error_inside_the_text(text in "[12\\-x é]{0,12}") {
            for grammar in [Grammar::Vega, Grammar::Paper] {
                match grammar.parse(&text) {
                    Ok(sequence) => prop_assert_eq!(grammar.print(&sequence), text.clone()),
                    Err(error) => {
                        prop_assert!((1..=text.chars().count() + 1).contains(&error.position));
                        prop_assert_eq!(text.chars().nth(error.position - 1), error.found);
                    }
                }
            }
        }

        #[test]
        fn a_one_line_encoding_reads_what_it_writes(sequence in any_sequence(), parallel in any::<bool>()) {
            let stages = if parallel { sequence.stage_count() } else { 0 };
            let line =
                OneLine { block: BlockKind::ResNeXt { groups: 32, width: 4 }, sequence, parallel: vec![3; stages] };
            prop_assert_eq!(line.to_string().parse(), Ok(line));
        }
    }

    #[test]
    fn the_grammars_agree_on_resnet_50_and_part_after_one_swap() {
        let seed = "111-2111-211111-211";
        assert_eq!(Grammar::Vega.parse(seed), Grammar::Paper.parse(seed));
        assert_ne!(Grammar::Vega.parse("1112-111-211111-211"), Grammar::Paper.parse("1112-111-211111-211"));
    }

    #[test]
    fn a_first_block_with_the_dashs_mark_is_spelt_with_a_leading_dash() {
        let both = Grammar::Vega.parse("-21").unwrap();
        assert!(both.blocks()[0].doubles && both.blocks()[0].down_samples);
        assert_eq!(Grammar::Paper.print(&both), "-21");
        assert_eq!(Grammar::Paper.print(&Grammar::Vega.parse("211").unwrap()), "-111");
    }

    #[test]
    fn an_error_names_the_position_and_what_may_stand_there() {
        let table = [
            ("", 1, None),
            ("-", 2, None),
            ("11-", 4, None),
            ("11--1", 4, Some('-')),
            ("113", 3, Some('3')),
            ("é1", 1, Some('é')),
        ];
        for (code, position, found) in table {
            let error = Grammar::Vega.parse(code).unwrap_err();
            assert_eq!((error.position, error.found), (position, found), "{code}");
        }
        assert_eq!(
            Grammar::Paper.parse("11--1").unwrap_err().to_string(),
            "code `11--1`: `-` at character 4, where `1` (a block that keeps the width) or `2` (that doubles it) may stand"
        );
        assert_eq!(
            Grammar::Vega.parse("11-").unwrap_err().to_string(),
            "code `11-` ends at character 4, where `1` (a block of stride 1) or `2` (of stride 2) must stand"
        );
    }

    #[test]
    fn a_one_line_encoding_carries_its_block_and_its_errors_count_from_the_line() {
        let line: OneLine = "x(32x4d)_111-2111-211111-211_0-0-2-0".parse().unwrap();
        assert_eq!(line.block, BlockKind::ResNeXt { groups: 32, width: 4 });
        assert_eq!(Ok(line.sequence), Grammar::Paper.parse("111-2111-211111-211"));
        assert_eq!(line.parallel, [0, 0, 2, 0]);
        let table = [
            ("q_11", 1),
            ("r_1x1", 4),
            ("r_11_0-0", 6),
            ("r_1-1_0-x", 9),
            ("r_1-1_0--", 9),
            ("r_1-1_0-", 9),
            ("r_1-1_+0-0", 7),
            ("r_1-1_", 7),
            ("r_1-1_0-4294967296", 9),
            ("r11", 4),
            ("", 1),
        ];
        for (text, position) in table {
            assert_eq!(text.parse::<OneLine>().unwrap_err().position, position, "{text}");
        }
    }
}
