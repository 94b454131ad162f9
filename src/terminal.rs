//! What the terminal can show: colours only on a terminal, and none if `NO_COLOR` is set (<https://no-color.org>).

use crate::exit::Failure;
use scenarios::diagnostic::Style;
use std::io::{IsTerminal, Write, stderr, stdout};

fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The style of messages on stderr.
pub fn stderr_style() -> Style {
    if stderr().is_terminal() && !no_color() { Style::Colour } else { Style::Plain }
}

/// Prints a result on stdout. A reader that has gone away is not our error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::Ours(format!("cannot write to stdout: {error}")),
    })
}

/// Whether results on stdout may be coloured.
pub fn stdout_colour() -> bool {
    stdout().is_terminal() && !no_color()
}
