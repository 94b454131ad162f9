//! The documents tell the truth: every command in a `console` block is run, and what is shown under it is what it
//! prints. `...` on a line of its own stands for lines that are left out; all others must follow each other.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use support::words;

/// A command as a reader would type it, and the lines shown under it.
struct Shown {
    place: String,
    command: Vec<String>,
    lines: Vec<String>,
}

/// The `console` blocks of a document.
fn shown(path: &Path) -> Vec<Shown> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut out: Vec<Shown> = Vec::new();
    let mut inside = false;
    for (n, line) in text.lines().enumerate() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ windtunnel ") {
                Some(arguments) => out.push(Shown {
                    place: format!("{}:{}", path.display(), n + 1),
                    command: words(arguments),
                    lines: Vec::new(),
                }),
                None => {
                    let last = out.last_mut();
                    last.unwrap_or_else(|| panic!("{}:{}: no command", path.display(), n + 1))
                        .lines
                        .push(line.to_owned());
                }
            },
        }
    }
    out
}

/// Where `part` stands in `lines` from `from` on.
fn find(lines: &[&str], part: &[String], from: usize) -> Option<usize> {
    (from..(lines.len() + 1).saturating_sub(part.len())).find(|&at| lines[at..at + part.len()] == *part)
}

#[test]
fn what_the_documents_show_is_what_the_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents: Vec<_> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    documents.sort();
    let mut commands = 0;
    for shown in documents.iter().flat_map(|path| shown(path)) {
        commands += 1;
        let run = Command::new(env!("CARGO_BIN_EXE_windtunnel"))
            .args(&shown.command)
            .current_dir(root)
            .output()
            .unwrap();
        let printed = String::from_utf8(run.stdout).unwrap();
        assert!(!printed.is_empty(), "{}: {}", shown.place, String::from_utf8_lossy(&run.stderr));
        let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let mut at = 0;
        for part in shown.lines.split(|line| line.trim() == "...") {
            let found = find(&printed, part, at);
            at = found.unwrap_or_else(|| {
                let odd = part.iter().find(|line| !printed.contains(&line.as_str()));
                panic!("{}: not printed so: {}", shown.place, odd.unwrap_or(&part[0]))
            }) + part.len();
        }
    }
    assert!(commands >= 5, "only {commands} commands in the documents");
}
