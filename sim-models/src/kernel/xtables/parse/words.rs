//! A line as words, split as `iptables-restore` does (`libxtables/xshared.c:add_param_to_argv`): blanks separate,
//! double quotes keep together, and a backslash inside quotes takes the next character as it is.

use smallvec::SmallVec;
use std::borrow::Cow;

/// What is wrong with a line, and at which byte of it.
#[derive(Debug)]
pub(in crate::kernel::xtables) struct Fault {
    pub(in crate::kernel::xtables) at: usize,
    pub(in crate::kernel::xtables) message: String,
}

/// A fault.
pub(in crate::kernel::xtables) fn fault<T>(at: usize, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, message: message.into() })
}

/// One word and the bytes of the line that it came from.
#[derive(Clone, Debug)]
pub(in crate::kernel::xtables) struct Word<'a> {
    pub(in crate::kernel::xtables) start: usize,
    pub(in crate::kernel::xtables) end: usize,
    pub(in crate::kernel::xtables) text: Cow<'a, str>,
    /// Quoted words are never options.
    pub(in crate::kernel::xtables) quoted: bool,
}

impl Word<'_> {
    /// Whether it is this option.
    pub(in crate::kernel::xtables) fn is(&self, option: &str) -> bool {
        !self.quoted && self.text == option
    }
}

/// The words of one rule.
pub(in crate::kernel::xtables) type Words<'a> = SmallVec<[Word<'a>; 32]>;

/// Splits `line` from byte `from` on.
pub(in crate::kernel::xtables) fn split<'a>(
    line: &'a str,
    from: usize,
    words: &mut Words<'a>,
) -> Result<(), Fault> {
    let bytes = line.as_bytes();
    let mut at = from;
    loop {
        while at < bytes.len() && matches!(bytes[at], b' ' | b'\t') {
            at += 1;
        }
        if at == bytes.len() {
            return Ok(());
        }
        let start = at;
        while at < bytes.len() && !matches!(bytes[at], b' ' | b'\t' | b'"') {
            at += 1;
        }
        let quoted = at < bytes.len() && bytes[at] == b'"';
        let text = if quoted {
            let (text, end) = quoted_word(line, start, at)?;
            at = end;
            text
        } else {
            Cow::Borrowed(&line[start..at])
        };
        words.push(Word { start, end: at, text, quoted });
    }
}

/// A word with quotes in it; the first of them is at `quote`. Gives the word and where it ends.
fn quoted_word(line: &str, start: usize, quote: usize) -> Result<(Cow<'_, str>, usize), Fault> {
    let bytes = line.as_bytes();
    // Most are one pair of quotes around text without escapes.
    let inside = quote + 1;
    let plain = bytes[inside..].iter().position(|b| matches!(b, b'"' | b'\\')).map(|n| inside + n);
    if let Some(end) = plain
        && start == quote
        && bytes[end] == b'"'
        && bytes.get(end + 1).is_none_or(|b| matches!(b, b' ' | b'\t'))
    {
        return Ok((Cow::Borrowed(&line[inside..end]), end + 1));
    }
    let mut text = String::new();
    let (mut in_quotes, mut escaped) = (false, false);
    for (offset, c) in line[start..].char_indices() {
        match c {
            _ if escaped => {
                text.push(c);
                escaped = false;
            }
            '\\' if in_quotes => escaped = true,
            '"' => in_quotes = !in_quotes,
            ' ' | '\t' if !in_quotes => return Ok((Cow::Owned(text), start + offset)),
            _ => text.push(c),
        }
    }
    if in_quotes {
        return fault(quote, "a quote (\") that is not closed on its line");
    }
    Ok((Cow::Owned(text), line.len()))
}
