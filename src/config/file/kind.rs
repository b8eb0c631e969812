//! Types of values that only SP-NAS knows, as they stand in the file.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spnas_actors::device::Place as DevicePlace;
use spnas_actors::journal::JournalSync;
use spnas_actors::objective::{Direction, Objective};

use crate::arch::grammar::Grammar;
use crate::arch::serial::{BlockKind, Stem};
use crate::config::checked::{
    Code, Compat, Devices, Epsilon, ImageSize, LogLevel, Metric, OnWorse, RunPath, Spread, Unit, WarmupShape,
    direction_of,
};
use crate::config::error::nearest;
use crate::config::print::Plain;
use crate::config::section::{Refusal, Setting};
use crate::config::setting::{Named, NonNegative};
use crate::config::yaml::{Entry, Node, Value};

/// The code that `text` spells in `grammar`: the one place where the file's codes are parsed.
pub(super) fn code(text: &str, grammar: Grammar) -> Result<Code, String> {
    Code::new(text, grammar).map_err(|error| error.to_string())
}

impl Named for Grammar {
    const NAMES: &'static [(&'static str, Self)] = &[("vega", Grammar::Vega), ("paper", Grammar::Paper)];
}

impl Named for Compat {
    const NAMES: &'static [(&'static str, Self)] = &[("paper", Compat::Paper), ("vega", Compat::Vega)];
}

impl Named for Stem {
    const NAMES: &'static [(&'static str, Self)] = &[("7x7", Stem::SevenBySeven), ("3x3", Stem::TwoThreeByThree)];
}

impl Named for OnWorse {
    const NAMES: &'static [(&'static str, Self)] = &[("stop", OnWorse::Stop), ("promote", OnWorse::Promote)];
}

impl Named for Spread {
    const NAMES: &'static [(&'static str, Self)] =
        &[("epsilon_net", Spread::EpsilonNet), ("crowding", Spread::Crowding)];
}

/// `noise` or a number.
impl Setting for Epsilon {
    fn expecting() -> String {
        format!("noise, or {}", NonNegative::expecting())
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        match &node.value {
            Value::Text(text) if text == "noise" => Ok(Epsilon::Noise),
            _ => NonNegative::read(node).map(Epsilon::Fixed),
        }
    }

    fn write(&self) -> Plain {
        match self {
            Epsilon::Noise => Plain::Text("noise".to_owned()),
            Epsilon::Fixed(width) => width.write(),
        }
    }
}

impl Named for WarmupShape {
    const NAMES: &'static [(&'static str, Self)] =
        &[("linear", WarmupShape::Linear), ("constant", WarmupShape::Constant), ("exp", WarmupShape::Exponential)];
}

/// `interval` is a second: what a power failure may then cost at most.
impl Named for JournalSync {
    const NAMES: &'static [(&'static str, Self)] =
        &[("full", JournalSync::Full), ("interval", JournalSync::Interval(Duration::from_secs(1)))];
}

impl Named for LogLevel {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("debug", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("error", LogLevel::Error),
        ("warning", LogLevel::Warn),
        ("critical", LogLevel::Error),
    ];
}

/// Vega's `by_epoch`.
impl Setting for Unit {
    fn expecting() -> String {
        bool::expecting()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        bool::read(node).map(|by_epoch| if by_epoch { Unit::Epoch } else { Unit::Step })
    }

    fn write(&self) -> Plain {
        Plain::Bool(*self == Unit::Epoch)
    }
}

impl Setting for BlockKind {
    fn expecting() -> String {
        "BasicBlock, BottleneckBlock or ResNeXt<groups>x<width>d such as ResNeXt32x4d".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let Value::Text(text) = &node.value else { return Err(Refusal::WrongType) };
        match text.as_str() {
            "BasicBlock" => return Ok(BlockKind::Basic),
            "BottleneckBlock" => return Ok(BlockKind::Bottleneck),
            _ => {}
        }
        let parts = text.strip_prefix("ResNeXt").and_then(|rest| rest.strip_suffix('d')?.split_once('x'));
        let parsed = parts.and_then(|(groups, width)| {
            Some((groups.parse::<NonZeroU32>().ok()?.get(), width.parse::<NonZeroU32>().ok()?.get()))
        });
        match parsed {
            Some((groups, width)) if groups.saturating_mul(width) <= 4096 => Ok(BlockKind::ResNeXt { groups, width }),
            Some(_) => Err(Refusal::Impossible("groups times width is more than 4096".to_owned())),
            None => {
                let like = nearest(text, ["BasicBlock", "BottleneckBlock", "ResNeXt32x4d"]);
                let remedy = like.map(|like| format!("; did you mean `{like}`?")).unwrap_or_default();
                Err(Refusal::Impossible(format!("there is no `{text}`, it must be {}{remedy}", Self::expecting())))
            }
        }
    }

    fn write(&self) -> Plain {
        Plain::Text(self.config_name())
    }
}

/// `160x120` or `[160, 120]`: width, then height.
impl Setting for ImageSize {
    fn expecting() -> String {
        "a width and a height in pixels such as 160x120".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let [width, height] = match &node.value {
            Value::List(_) => <[NonZeroU32; 2]>::read(node)?,
            Value::Text(text) => {
                let (width, height) = text.split_once('x').ok_or(Refusal::WrongType)?;
                let side = |text: &str| text.trim().parse::<NonZeroU32>().map_err(|_| Refusal::WrongType);
                [side(width)?, side(height)?]
            }
            _ => return Err(Refusal::WrongType),
        };
        if width.get().max(height.get()) > 65_535 {
            return Err(Refusal::Impossible("an image has at most 65535 pixels on a side".to_owned()));
        }
        Ok(Self { width, height })
    }

    fn write(&self) -> Plain {
        Plain::List(vec![self.width.write(), self.height.write()])
    }
}

/// How Vega writes the task's folder.
const TASK_FOLDER: &str = "{local_base_path}";

impl Setting for RunPath {
    fn expecting() -> String {
        PathBuf::expecting()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let path = PathBuf::read(node)?;
        let text = path.to_string_lossy().into_owned();
        match text.strip_prefix(TASK_FOLDER) {
            Some(below) => Ok(RunPath::InTask(Path::new(below.trim_start_matches('/')).to_owned())),
            None if text.contains('{') => {
                Err(Refusal::Impossible(format!("only `{TASK_FOLDER}` at the beginning is replaced")))
            }
            None => Ok(RunPath::Given(path)),
        }
    }

    fn write(&self) -> Plain {
        match self {
            RunPath::Given(path) => path.write(),
            RunPath::InTask(below) => Plain::Text(format!("{TASK_FOLDER}/{}", below.display())),
        }
    }
}

impl Setting for Metric {
    fn expecting() -> String {
        "the name of a metric such as mAP or params".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Map(entries) => return directed(entries),
            _ => return Err(Refusal::WrongType),
        };
        if let Some(direction) = direction_of(text) {
            return Ok(Metric(Objective { name: text.clone(), direction }));
        }
        let known = || crate::config::checked::METRICS.iter().map(|known| known.name);
        let remedy = match nearest(text, known()) {
            Some(like) => format!("did you mean `{like}`?"),
            None => format!(
                "there are {}, and those of a program of your own: {{maximise: {text}}} or {{minimise: {text}}}",
                known().collect::<Vec<_>>().join(", ")
            ),
        };
        Err(Refusal::Impossible(format!("no metric is called `{text}`; {remedy}")))
    }

    fn write(&self) -> Plain {
        let Metric(Objective { name, direction }) = self;
        if direction_of(name) == Some(*direction) {
            return Plain::Text(name.clone());
        }
        let word = DIRECTIONS.iter().find(|(_, known)| known == direction).map_or("", |(word, _)| word);
        Plain::Map(vec![(word.to_owned(), Plain::Text(name.clone()))])
    }
}

const DIRECTIONS: [(&str, Direction); 4] = [
    ("maximise", Direction::Maximise),
    ("minimise", Direction::Minimise),
    ("maximize", Direction::Maximise),
    ("minimize", Direction::Minimise),
];

/// `{minimise: val_loss}`: a metric whose better direction is written beside it.
fn directed(entries: &[Entry]) -> Result<Metric, Refusal> {
    let [entry] = entries else { return Err(Refusal::WrongType) };
    let Some((_, direction)) = DIRECTIONS.iter().find(|(word, _)| *word == entry.key) else {
        return Err(Refusal::Impossible(format!("`{}` is neither `maximise` nor `minimise`", entry.key)));
    };
    let name = String::read(&entry.node)?;
    if name.is_empty() || name.contains(char::is_control) {
        return Err(Refusal::Impossible(format!("{name:?} is no name of a metric")));
    }
    Ok(Metric(Objective { name, direction: *direction }))
}

impl Setting for Devices {
    fn expecting() -> String {
        "auto, a list such as [cuda:0, cuda:1], or {cpu: 2} for two shares of the processor".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        match &node.value {
            Value::Text(text) if text == "auto" => Ok(Devices::Auto),
            Value::Map(entries) => match entries.as_slice() {
                [entry] if entry.key == "cpu" => shares(NonZeroU32::read(&entry.node)?).map(Devices::Cpu),
                _ => Err(Refusal::WrongType),
            },
            Value::Text(_) | Value::List(_) => cuda(Vec::<CudaDevice>::read(node)?),
            _ => Err(Refusal::WrongType),
        }
    }

    fn write(&self) -> Plain {
        match self {
            Devices::Auto => Plain::Text("auto".to_owned()),
            Devices::Cuda(ordinals) => {
                Plain::List(ordinals.iter().map(|ordinal| Plain::Text(format!("cuda:{ordinal}"))).collect())
            }
            Devices::Cpu(shares) => Plain::Map(vec![("cpu".to_owned(), shares.write())]),
        }
    }
}

/// More than any machine has cores: beyond this it is a slip of the hand, which would start as many threads.
const MOST_SHARES: u32 = 1024;

fn shares(count: NonZeroU32) -> Result<NonZeroU32, Refusal> {
    if count.get() > MOST_SHARES {
        return Err(Refusal::Impossible(format!("a processor is cut into {MOST_SHARES} shares at most, not {count}")));
    }
    Ok(count)
}

/// One entry of a list of devices.
struct CudaDevice(u32);

impl Setting for CudaDevice {
    fn expecting() -> String {
        "a CUDA device such as cuda:0".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let name = String::read(node)?;
        match name.parse::<DevicePlace>() {
            Ok(DevicePlace::Cuda { ordinal }) => Ok(Self(ordinal)),
            _ => {
                let why = format!("`{name}` is no CUDA device such as cuda:0 (for the processor write {{cpu: 2}})");
                Err(Refusal::Impossible(why))
            }
        }
    }

    fn write(&self) -> Plain {
        Plain::Text(format!("cuda:{}", self.0))
    }
}

fn cuda(devices: Vec<CudaDevice>) -> Result<Devices, Refusal> {
    let mut ordinals = Vec::new();
    for CudaDevice(ordinal) in devices {
        if ordinals.contains(&ordinal) {
            return Err(Refusal::Impossible(format!("`cuda:{ordinal}` stands there twice")));
        }
        ordinals.push(ordinal);
    }
    match ordinals.is_empty() {
        true => Err(Refusal::Impossible("names no device".to_owned())),
        false => Ok(Devices::Cuda(ordinals)),
    }
}
