//! Markup: writes HTML and SVG elements into one text. Names of elements and attributes are the program's own; values and
//! texts may come from anywhere and are always escaped, so nothing that a search recorded can become markup. What comes
//! out is well-formed XML as well as HTML.

use std::fmt::{self, Display, Write};

/// A text that grows by whole elements.
#[derive(Debug, Default)]
pub(crate) struct Markup(String);

/// An element whose attributes are being written. It is finished by [`Tag::empty`], [`Tag::text`] or [`Tag::within`].
#[must_use = "an element must be finished"]
pub(crate) struct Tag<'a> {
    markup: &'a mut Markup,
    name: &'static str,
}

/// HTML elements that have no end tag; all others must have one.
const VOID: [&str; 5] = ["br", "hr", "img", "link", "meta"];

impl Markup {
    /// Begins an element.
    pub(crate) fn open(&mut self, name: &'static str) -> Tag<'_> {
        self.0.push('<');
        self.0.push_str(name);
        Tag { markup: self, name }
    }

    /// Text between elements.
    pub(crate) fn text(&mut self, text: impl Display) {
        self.escaped(text);
    }

    /// An element that holds only text.
    pub(crate) fn line(&mut self, name: &'static str, text: impl Display) {
        self.open(name).text(text);
    }

    /// The program's own style sheet or script, as it is.
    pub(crate) fn verbatim(&mut self, own: &str) {
        self.0.push_str(own);
    }

    /// All that was written.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn escaped(&mut self, value: impl Display) {
        // Writing to a string cannot fail; a failing `Display` of a value only cuts it short.
        let _ = write!(Escaped(&mut self.0), "{value}");
    }
}

impl Tag<'_> {
    /// Adds an attribute.
    pub(crate) fn attr(self, name: &'static str, value: impl Display) -> Self {
        self.markup.0.push(' ');
        self.markup.0.push_str(name);
        self.markup.0.push_str("=\"");
        self.markup.escaped(value);
        self.markup.0.push('"');
        self
    }

    /// Adds a coordinate or length in the picture's units, to a tenth.
    pub(crate) fn at(self, name: &'static str, value: f64) -> Self {
        self.attr(name, Px(value))
    }

    /// Ends the element without content.
    pub(crate) fn empty(self) {
        if self.name.starts_with(char::is_lowercase) && (VOID.contains(&self.name) || is_svg_shape(self.name)) {
            self.markup.0.push_str("/>");
        } else {
            self.within(|_| {});
        }
    }

    /// Ends the element with a text in it.
    pub(crate) fn text(self, text: impl Display) {
        self.within(|inner| inner.text(text));
    }

    /// Ends the element with what `content` writes in it.
    pub(crate) fn within(self, content: impl FnOnce(&mut Markup)) {
        let Self { markup, name } = self;
        markup.0.push('>');
        content(markup);
        markup.0.push_str("</");
        markup.0.push_str(name);
        markup.0.push('>');
    }
}

fn is_svg_shape(name: &str) -> bool {
    matches!(name, "path" | "rect" | "circle" | "line" | "polyline" | "image" | "use")
}

/// A coordinate to a tenth of a unit, without needless digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Px(pub(crate) f64);

impl Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round();
        // A coordinate that is not finite has no place in a picture; 0 keeps the markup valid.
        let tenths = if tenths.is_finite() { tenths + 0.0 } else { 0.0 };
        if tenths % 10.0 == 0.0 { write!(f, "{:.0}", tenths / 10.0) } else { write!(f, "{:.1}", tenths / 10.0) }
    }
}

/// Escapes what goes through it. Characters that XML 1.0 does not allow (section 2.2) become U+FFFD.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\t' | '\n' => self.0.push(char),
                '\0'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => self.0.push('\u{fffd}'),
                _ => self.0.push(char),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_values_cannot_become_markup() {
        let mut markup = Markup::default();
        markup.open("p").attr("title", "a\"b<c").text("</p><script>&\u{1b}[31m");
        let text = markup.into_text();
        assert_eq!(text, "<p title=\"a&quot;b&lt;c\">&lt;/p&gt;&lt;script&gt;&amp;\u{fffd}[31m</p>");
        roxmltree::Document::parse(&text).unwrap();
    }

    #[test]
    fn coordinates_have_no_needless_digits() {
        let shown = |value| Px(value).to_string();
        assert_eq!([shown(3.0), shown(2.449), shown(-0.01), shown(f64::NAN)], ["3", "2.4", "0", "0"]);
    }
}
