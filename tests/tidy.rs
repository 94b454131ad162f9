//! Habits that neither the compiler nor clippy keeps: what files may contain, how they begin, how long they are.
//!
//! An exception is a line in one of the tables below, with its reason; an exception that is no longer needed fails too.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const LINES_MAX: usize = 600;

/// Words that files must not contain, who may contain them nevertheless, and why they are banned. Written in two parts,
/// so that this table does not find itself.
const BANNED: &[(&str, &str, &[&str], &str)] = &[
    ("Hash", "Map", &[], "its order is random: BTreeMap, an index, or a map with a fixed hasher"),
    ("Hash", "Set", &[], "its order is random: BTreeSet or an index"),
    ("Instant::", "now", &["src/", "benches/"], "only the command line and benches read a clock"),
    ("System", "Time", &["src/", "benches/"], "only the command line and benches read a clock"),
    ("std::", "env", &["src/", "benches/", "tests/", "fuzz/"], "only the command line reads the environment"),
    ("std::", "thread", &["src/", "benches/", "tests/"], "only the command line starts threads"),
    ("todo", "!(", &[], "say what is missing in the documents, and return an error"),
    ("unimplemented", "!(", &[], "say what is missing in the documents, and return an error"),
    ("dbg", "!(", &[], "a leftover"),
    ("unsafe ", "{", &[], "there is none in this workspace"),
    ("FIX", "ME", &[], "an issue is where it belongs"),
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[(&str, &str)] =
    &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/tm", "p/"), ("../sh", "ared")];

/// Files that are longer than [`LINES_MAX`], and why.
const LONG: &[(&str, &str)] = &[];

/// Extensions of files that people write; CI's script has none.
const WRITTEN: &[&str] = &["rs", "md", "toml", "yaml", "yml", "sh", ""];

/// Folders of files that stay as they came, and why.
const UNTIDY: &[(&str, &str)] = &[
    ("scenarios/bad/", "wrong on purpose"),
    ("fuzz/corpus/", "wrong on purpose"),
    ("sim-models/tests/kube-proxy/", "recorded: what kube-proxy was started with"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `folder` that is the project's: hidden folders (save those of CI), builds and results are not.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("readable").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            let ours = !name.starts_with('.') || [".ci", ".config", ".github"].contains(&name.as_str());
            if ours && !["target", "out", "artifacts"].contains(&name.as_str()) {
                walk(&path, files);
            }
        } else if name != ".git" {
            // A work tree's `.git` is a file, which says where the repository is.
            files.push(path);
        }
    }
}

/// Path relative to the workspace and text of every file with one of these extensions.
fn written(extensions: &[&str]) -> Vec<(String, String)> {
    texts(|extension| extensions.contains(&extension))
}

/// The same of every file whose extension is wanted.
fn texts(wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut files = Vec::new();
    walk(root(), &mut files);
    let with_text = files.into_iter().filter_map(|path| {
        let relative =
            path.strip_prefix(root()).expect("under the root").to_string_lossy().replace('\\', "/");
        let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        wanted(&extension).then(|| {
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            // Seeds of the fuzzer may be anything.
            (relative, String::from_utf8_lossy(&bytes).into_owned())
        })
    });
    let files: Vec<_> = with_text.collect();
    assert!(files.iter().any(|(path, _)| path.starts_with("sim-core/")), "the walk found nothing");
    files
}

/// Whether `path` is in `folder`; in `tests/` of any package, in the others only at the top.
fn is_in(path: &str, folder: &str) -> bool {
    path.starts_with(folder) || (folder == "tests/" && path.contains("/tests/"))
}

#[track_caller]
fn none(slips: &str) {
    assert!(slips.is_empty(), "\n{slips}");
}

#[test]
fn no_file_contains_a_banned_word() {
    let mut slips = String::new();
    for (path, text) in written(&["rs"]) {
        for (number, line) in text.lines().enumerate() {
            // A comment may name what it explains the absence of.
            let code = line.split("//").next().unwrap_or_default();
            for (head, tail, allowed, why) in BANNED {
                let word = format!("{head}{tail}");
                if code.contains(&word) && !allowed.iter().any(|folder| is_in(&path, folder)) {
                    writeln!(slips, "{path}:{}: {word}: {why}", number + 1).expect("text");
                }
            }
        }
    }
    none(&slips);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut slips = String::new();
    for (path, text) in texts(|_| true) {
        for (number, line) in text.lines().enumerate() {
            for (head, tail) in MACHINE_PATHS {
                if line.contains(&format!("{head}{tail}")) {
                    writeln!(slips, "{path}:{}: {}", number + 1, line.trim()).expect("text");
                }
            }
        }
    }
    none(&slips);
}

#[test]
fn every_source_file_begins_by_saying_what_it_is() {
    let mut slips = String::new();
    for (path, text) in written(&["rs"]) {
        if path.ends_with(".rs") && !text.starts_with("//! ") {
            writeln!(slips, "{path}: the first line is not `//! ...`").expect("text");
        }
    }
    none(&slips);
}

#[test]
fn no_source_file_is_longer_than_a_subject_needs() {
    let mut slips = String::new();
    let files = written(&["rs"]);
    for (path, text) in &files {
        let (lines, excused) = (text.lines().count(), LONG.iter().any(|(long, _)| long == path));
        if lines > LINES_MAX && !excused {
            writeln!(slips, "{path}: {lines} lines, more than {LINES_MAX}").expect("text");
        }
        if lines <= LINES_MAX && excused {
            writeln!(slips, "{path}: {lines} lines, no longer long: take it off the list").expect("text");
        }
    }
    for (long, why) in LONG {
        if !files.iter().any(|(path, _)| path == long) {
            writeln!(slips, "{long}: listed ({why}) but not there").expect("text");
        }
    }
    none(&slips);
}

#[test]
fn files_end_with_a_newline_and_have_no_carriage_returns() {
    let mut slips = String::new();
    let files = written(WRITTEN);
    for script in [".ci/run", ".gitignore"] {
        assert!(files.iter().any(|(path, _)| path == script), "{script} is not looked at");
    }
    for (path, text) in files {
        let untidy = UNTIDY.iter().any(|(folder, _)| path.starts_with(folder));
        if !untidy && (!text.ends_with('\n') || text.contains('\r')) {
            writeln!(slips, "{path}: no newline at its end, or a carriage return").expect("text");
        }
    }
    none(&slips);
}

/// What stands between `before` and `after` wherever the one is followed by the other on a line.
fn between(text: &str, before: &str, after: &str) -> Vec<String> {
    let found = text.lines().filter_map(|line| line.trim().strip_prefix(before)?.split_once(after));
    found.map(|(name, _)| name.to_owned()).collect()
}

/// Names of what is in a folder, without `.rs`.
fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
    entries.map(|entry| name(entry.expect("readable"))).collect()
}

#[test]
fn every_fuzz_target_has_its_line_file_binary_and_seeds() {
    let text = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let table = text("fuzz/src/lib.rs");
    let targets = sorted(between(&table, "Target { name: \"", "\""));
    assert!(targets.len() > 5, "the table was not found: {targets:?}");
    let manifest = text("fuzz/Cargo.toml");
    let bins = manifest.split("[[bin]]").skip(1);
    let bins = sorted(bins.flat_map(|bin| between(bin, "name = \"", "\"")).collect());
    let paths = sorted(between(&manifest, "path = \"fuzz_targets/", ".rs\""));
    assert_eq!(bins, targets, "[[bin]] of fuzz/Cargo.toml beside TARGETS");
    assert_eq!(paths, targets, "paths of fuzz/Cargo.toml beside TARGETS");
    assert_eq!(sorted(names_in("fuzz/fuzz_targets")), targets, "fuzz/fuzz_targets beside TARGETS");
    assert_eq!(sorted(names_in("fuzz/corpus")), targets, "fuzz/corpus beside TARGETS");
    for target in &targets {
        assert!(!names_in(&format!("fuzz/corpus/{target}")).is_empty(), "{target} has no seeds");
        let file = text(&format!("fuzz/fuzz_targets/{target}.rs"));
        assert!(file.contains(&format!("windtunnel_fuzz::{target}(data)")), "{target}.rs runs another");
        assert!(table.contains(&format!("run: {target},")), "{target} runs another function");
    }
}

#[test]
fn the_fuzz_workspace_has_the_lints_of_this_one() {
    let lints = |path: &str, head: &str| {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (_, after) = text.split_once(head).unwrap_or_else(|| panic!("{path} has no {head}"));
        let lines = after.lines().skip(1).take_while(|line| !line.is_empty() && !line.starts_with('['));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for tool in ["rust", "clippy"] {
        let ours = lints("Cargo.toml", &format!("[workspace.lints.{tool}]"));
        assert!(!ours.is_empty());
        assert_eq!(lints("fuzz/Cargo.toml", &format!("[lints.{tool}]")), ours, "{tool}");
    }
}
