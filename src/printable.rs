//! What somebody else has said, made fit to be shown: programs and clients write it, logs, terminals and pages take it.

/// The text without what could steer a terminal: control characters but line breaks are replaced.
pub(crate) fn printable(text: &str) -> String {
    let shown = |char: char| if char.is_control() && char != '\n' { char::REPLACEMENT_CHARACTER } else { char };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal_and_lines_stay_lines() {
        assert_eq!(printable("too\u{1b}[31m large\nä\0"), "too\u{fffd}[31m large\nä\u{fffd}");
    }
}
