//! What several end-to-end tests share: running the command, and rulesets in a form that can be compared.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod lab;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs windtunnel in the workspace with `input` on its stdin.
pub fn windtunnel_with(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_windtunnel"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that refuses its flags does not read: the broken pipe is no news.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("the binary ends")
}

/// The words of a command line, those in double quotes whole.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        match i % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// What windtunnel prints for these arguments, which it must accept.
#[track_caller]
pub fn printed(args: &[&str]) -> String {
    let output = windtunnel_with(args, "");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("rules are UTF-8")
}

/// The text of `iptables-save` as table -> lines, without comments and counters.
pub fn iptables_tables(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut tables = BTreeMap::<String, Vec<String>>::new();
    let mut table = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && *line != "COMMIT") {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
            assert!(tables.insert(table.clone(), Vec::new()).is_none(), "table {name} is there twice");
            continue;
        }
        let line = if line.starts_with(':') { line.split(" [").next().expect("the line") } else { line };
        tables.get_mut(&table).unwrap_or_else(|| panic!("before any table: {line}")).push(line.to_owned());
    }
    tables
}

/// One table of the text of `nft list ruleset` as block -> lines; elements one a line and sorted, since nft lists them
/// in the order of its hash tables.
pub fn nft_table(text: &str, table: &str) -> BTreeMap<String, Vec<String>> {
    let start = text.find(table).unwrap_or_else(|| panic!("{table} is not in:\n{text}"));
    let text = &text[start..];
    let text = &text[..text.find("\n}").unwrap_or(text.len())];
    let mut blocks = BTreeMap::<String, Vec<String>>::new();
    let mut block = String::new();
    let mut in_elements = false;
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let depth = line.chars().take_while(|c| *c == '\t').count();
        let line = line.trim();
        if depth == 1 && line.ends_with('{') {
            block = line.to_owned();
            blocks.insert(block.clone(), Vec::new());
            continue;
        }
        let lines = blocks.entry(block.clone()).or_default();
        let elements = line.strip_prefix("elements = {");
        in_elements |= elements.is_some();
        if in_elements {
            in_elements = !line.ends_with('}');
            let list = elements.unwrap_or(line).trim_end_matches('}').split(',').map(str::trim);
            lines.extend(list.filter(|e| !e.is_empty()).map(|e| format!("element {e}")));
        } else {
            lines.push(line.to_owned());
        }
    }
    for lines in blocks.values_mut() {
        // Stable: what is no element keeps its order before them.
        let (mut elements, mut rest): (Vec<String>, Vec<String>) =
            lines.drain(..).partition(|line| line.starts_with("element "));
        elements.sort();
        rest.append(&mut elements);
        *lines = rest;
    }
    blocks
}

/// Says where two rulesets differ first.
#[track_caller]
pub fn same(what: &str, ours: &BTreeMap<String, Vec<String>>, theirs: &BTreeMap<String, Vec<String>>) {
    let names = |set: &BTreeMap<String, Vec<String>>| set.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs), "{what}");
    for (name, lines) in ours {
        for (i, (our, their)) in lines.iter().zip(&theirs[name]).enumerate() {
            assert_eq!(our, their, "{what}: {name}, line {i}");
        }
        assert_eq!(lines.len(), theirs[name].len(), "{what}: {name}");
    }
}
