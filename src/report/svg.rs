//! Pictures: the frame of a plot with its axes, and the paths that lie in it. Values are placed by `axis`, written by
//! `markup`; colours and fonts are the page's.

use std::fmt::{self, Display};

use super::axis::Tick;
use super::markup::{Markup, Px};

/// A plot's size and margins, in the picture's units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Of the whole picture.
    pub(crate) width: f64,
    /// Of the whole picture.
    pub(crate) height: f64,
    /// Room for the vertical axis.
    pub(crate) left: f64,
    /// Room for the horizontal axis.
    pub(crate) bottom: f64,
}

/// An axis: what it measures and where its ticks are.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// What it measures, with its unit or better direction.
    pub(crate) title: String,
    /// The ticks.
    pub(crate) ticks: Vec<Tick>,
}

const TOP: f64 = 26.0;
const RIGHT: f64 = 18.0;

impl Frame {
    /// A frame with room for ordinary tick labels.
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self { width, height, left: 56.0, bottom: 44.0 }
    }

    /// From left to right.
    pub(crate) fn across(&self) -> (f64, f64) {
        (self.left, self.width - RIGHT)
    }

    /// From bottom to top.
    pub(crate) fn upwards(&self) -> (f64, f64) {
        (self.height - self.bottom, TOP)
    }

    /// A picture of this size, described for those who do not see it.
    pub(crate) fn picture(&self, page: &mut Markup, described: &str, content: impl FnOnce(&mut Markup)) {
        let view = format!("0 0 {} {}", Px(self.width), Px(self.height));
        let svg = page.open("svg").attr("viewBox", view).attr("role", "img").attr("aria-label", described);
        svg.attr("xmlns", "http://www.w3.org/2000/svg").within(content);
    }

    /// Draws the axes of a plot without values: no ticks, which would name values that nobody measured.
    pub(crate) fn empty_axes(&self, svg: &mut Markup, x: &str, y: &str) {
        let axis = |title: &str| Axis { title: title.to_owned(), ticks: Vec::new() };
        self.axes(svg, &axis(x), &axis(y));
        let ((left, right), (bottom, top)) = (self.across(), self.upwards());
        let text = svg.open("text").attr("class", "none").attr("text-anchor", "middle");
        text.at("x", (left + right) / 2.0).at("y", (bottom + top) / 2.0).text("no trial has finished yet");
    }

    /// Draws grid, ticks and titles.
    pub(crate) fn axes(&self, svg: &mut Markup, x: &Axis, y: &Axis) {
        let ((left, right), (bottom, top)) = (self.across(), self.upwards());
        let mut grid = String::new();
        for tick in &y.ticks {
            grid += &format!("M{} {}H{}", Px(left), Px(tick.at), Px(right));
        }
        for tick in &x.ticks {
            grid += &format!("M{} {}V{}", Px(tick.at), Px(bottom), Px(top));
        }
        svg.open("path").attr("class", "grid").attr("d", grid).empty();
        svg.open("path").attr("class", "axis").attr("d", format!("M{} {}H{}", Px(left), Px(bottom), Px(right))).empty();
        svg.open("g").attr("class", "tick").attr("text-anchor", "end").within(|svg| {
            for tick in &y.ticks {
                svg.open("text").at("x", left - 8.0).at("y", tick.at + 4.0).text(&tick.label);
            }
        });
        svg.open("g").attr("class", "tick").attr("text-anchor", "middle").within(|svg| {
            for tick in &x.ticks {
                svg.open("text").at("x", tick.at).at("y", bottom + 18.0).text(&tick.label);
            }
        });
        svg.open("text").attr("class", "title").at("x", 8.0).at("y", 14.0).text(&y.title);
        let x_title = svg.open("text").attr("class", "title").attr("text-anchor", "end");
        x_title.at("x", right).at("y", bottom + 37.0).text(&x.title);
    }
}

/// A path through points, as the `d` attribute of a `path`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path(String);

impl Path {
    /// Begins at a point.
    pub(crate) fn move_to(&mut self, x: f64, y: f64) -> &mut Self {
        self.0 += &format!("M{} {}", Px(x), Px(y));
        self
    }

    /// A straight line to a point, or the beginning where there is none yet.
    pub(crate) fn line_to(&mut self, x: f64, y: f64) -> &mut Self {
        let command = if self.0.is_empty() { 'M' } else { 'L' };
        self.0 += &format!("{command}{} {}", Px(x), Px(y));
        self
    }

    /// Along to `x`, then up or down to `y`.
    pub(crate) fn step_to(&mut self, x: f64, y: f64) -> &mut Self {
        self.0 += &format!("H{}V{}", Px(x), Px(y));
        self
    }

    /// Up or down to `y`.
    pub(crate) fn vertical(&mut self, y: f64) -> &mut Self {
        self.0 += &format!("V{}", Px(y));
        self
    }

    /// Along to `x`.
    pub(crate) fn horizontal(&mut self, x: f64) -> &mut Self {
        self.0 += &format!("H{}", Px(x));
        self
    }

    /// A dot at a point, drawn by a round line cap.
    pub(crate) fn dot(&mut self, x: f64, y: f64) -> &mut Self {
        self.0 += &format!("M{} {}h0", Px(x), Px(y));
        self
    }

    /// A box with its upper left corner at a point.
    pub(crate) fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64) -> &mut Self {
        self.0 += &format!("M{} {}h{}v{}h{}z", Px(x), Px(y), Px(width), Px(height), Px(-width));
        self
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keeps labels apart: those placed so far, as boxes.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    taken: Vec<[f64; 4]>,
    only_above: bool,
}

/// Where a label goes: its anchor point and the text's anchor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LabelPlace {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) anchor: &'static str,
}

impl Labels {
    /// Takes a place away from labels, as a marker does.
    pub(crate) fn block(&mut self, x: f64, y: f64, radius: f64) {
        self.taken.push([x - radius, y - radius, x + radius, y + radius]);
    }

    /// Puts all further labels above their markers and further apart.
    pub(crate) fn only_above(&mut self) {
        self.only_above = true;
    }

    /// A free place for `text` beside a marker, inside of `bounds` (left, top, right, bottom), if there is one.
    pub(crate) fn beside(&mut self, x: f64, y: f64, text: &str, bounds: [f64; 4]) -> Option<LabelPlace> {
        let (width, height) = (7.0 * text.chars().count() as f64, 12.0);
        let candidates = [
            (x - 8.0, y - 8.0, "end"),
            (x + 8.0, y - 8.0, "start"),
            (x + 9.0, y + 4.0, "start"),
            (x - 9.0, y + 4.0, "end"),
            (x + 8.0, y + 17.0, "start"),
            (x - 8.0, y + 17.0, "end"),
        ];
        let (candidates, apart) = if self.only_above { (&candidates[..1], 5.0) } else { (&candidates[..], 0.0) };
        for &(x, y, anchor) in candidates {
            let left = if anchor == "end" { x - width } else { x };
            let new = [left - apart, y - height + 2.0, left + width, y + 2.0];
            let inside = new[0] >= bounds[0] && new[1] >= bounds[1] && new[2] <= bounds[2] && new[3] <= bounds[3];
            let free = |old: &[f64; 4]| new[2] <= old[0] || old[2] <= new[0] || new[3] <= old[1] || old[3] <= new[1];
            if inside && self.taken.iter().all(free) {
                self.taken.push(new);
                return Some(LabelPlace { x, y, anchor });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_never_overlap_and_give_up_where_it_is_full() {
        let mut labels = Labels::default();
        let bounds = [0.0, 0.0, 100.0, 60.0];
        let places: Vec<_> = (0..20).filter_map(|_| labels.beside(50.0, 30.0, "12", bounds)).collect();
        assert!((2..=6).contains(&places.len()), "{places:?}");
        for (at, place) in places.iter().enumerate() {
            assert!(!places[..at].contains(place));
        }
    }

    #[test]
    fn a_path_is_written_in_few_characters() {
        let mut path = Path::default();
        path.move_to(1.0, 2.25).step_to(4.0, 8.0).dot(3.0, 3.0);
        assert_eq!(path.to_string(), "M1 2.3H4V8M3 3h0");
    }
}
