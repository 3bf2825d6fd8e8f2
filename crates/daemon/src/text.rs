//! Text from files and flags, made fit for a person's terminal.

/// The longest piece of a file that an error repeats, in bytes: enough to recognise it, too little to flood.
const MAX_ECHO: usize = 400;

/// `text` on one line, without control characters, and cut after about [`MAX_ECHO`] bytes.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() >= MAX_ECHO {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// `text` as one word of a shell command, quoted only where that is needed.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_floods_never_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), r"a\u{1b}[31mb\n");
        for flood in ["ä", "\u{1b}"] {
            let shown = printable(&flood.repeat(1_000_000));
            assert!(shown.len() < MAX_ECHO + 10 && shown.ends_with('…'), "{shown}");
        }
    }

    #[test]
    fn shell_words_are_quoted_only_when_needed() {
        assert_eq!(shell_word("/var/lib/echelon"), "/var/lib/echelon");
        assert_eq!(shell_word("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("-rf"), "'-rf'");
    }
}
