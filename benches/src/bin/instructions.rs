//! Counts the instructions of every workload under valgrind and holds them against `benches/instructions.toml`.
//!
//! ```text
//! cargo build --release -p windtunnel-benches --bins --benches     the build that CI counts: others are inlined otherwise
//! target/release/instructions                     count and compare
//! target/release/instructions linear_walk         only that one
//! target/release/instructions --update "why"      write what was counted
//! ```
//! A figure that moved by more than the tolerance fails with 1, in both directions: an improvement that is not written
//! down is lost again unnoticed. `work NAME` is what valgrind runs; only [`counted`] of it counts.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use windtunnel_benches::counted::{Job, WORKLOADS, Workload};

/// The committed figures.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    /// Largest share by which a count may differ from its figure.
    tolerance: f64,
    /// What the figures were counted with.
    counted_with: String,
    /// By workload.
    instructions: BTreeMap<String, Figure>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    count: u64,
    reason: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["work", name] => named(name).map(|workload| {
            let mut job = (workload.prepare)();
            println!("{}", counted(&mut job));
            true
        }),
        ["--update", reason, names @ ..] => select(names).and_then(|w| update(&w, reason)),
        names => select(names).and_then(|w| compare(&w)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// The function that valgrind is told to count in; never inlined, so that it has a name.
#[inline(never)]
fn counted(job: &mut Job) -> u64 {
    job()
}

fn named(name: &str) -> Result<&'static Workload, String> {
    let all = || WORKLOADS.iter().map(|w| w.name).collect::<Vec<_>>().join(", ");
    WORKLOADS
        .iter()
        .find(|w| w.name == name)
        .ok_or_else(|| format!("no workload {name}; there are {}", all()))
}

fn select(names: &[&str]) -> Result<Vec<&'static Workload>, String> {
    if names.is_empty() { Ok(WORKLOADS.iter().collect()) } else { names.iter().map(|n| named(n)).collect() }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

fn read() -> Result<Figures, String> {
    let text = std::fs::read_to_string(path()).map_err(|e| format!("benches/instructions.toml: {e}"))?;
    toml::from_str(&text).map_err(|e| format!("benches/instructions.toml: {e}"))
}

/// Instructions of one workload.
fn count(workload: &Workload) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*instructions*counted*",
        ])
        .arg(own)
        .args(["work", workload.name])
        .output()
        .map_err(|e| format!("valgrind does not start: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} failed under valgrind:\n{text}", workload.name));
    }
    let collected =
        text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, n)| n.trim().parse());
    match collected {
        Some(Ok(count)) if count > 0 => Ok(count),
        _ => Err(format!("{}: valgrind counted nothing:\n{text}", workload.name)),
    }
}

fn compare(workloads: &[&'static Workload]) -> Result<bool, String> {
    let figures = read()?;
    let mut good = true;
    println!("{:<18} {:>14} {:>14} {:>9}", "workload", "committed", "counted", "change");
    for workload in workloads {
        let counted = count(workload)?;
        let Some(figure) = figures.instructions.get(workload.name) else {
            return Err(format!("{} has no figure: write it with --update \"why\"", workload.name));
        };
        let change = counted as f64 / figure.count as f64 - 1.0;
        let within = change.abs() <= figures.tolerance;
        good &= within;
        let remark = if within { "" } else { "  past the tolerance" };
        let percent = change * 100.0;
        println!("{:<18} {:>14} {counted:>14} {percent:>+8.2}%{remark}", workload.name, figure.count);
    }
    let unknown = figures.instructions.keys().filter(|name| named(name).is_err());
    for name in unknown {
        good = false;
        println!("{name:<18} has a figure but is no workload");
    }
    if !good {
        println!(
            "\nFigures of benches/instructions.toml were counted with {}.\n\
             If the change is meant: target/release/instructions --update \"why\"",
            figures.counted_with
        );
    }
    Ok(good)
}

fn update(workloads: &[&'static Workload], reason: &str) -> Result<bool, String> {
    if reason.trim().is_empty() || named(reason).is_ok() {
        return Err("--update wants the reason of the change first".into());
    }
    let (tolerance, mut known) = match read() {
        Ok(old) => (old.tolerance, old.instructions),
        Err(_) if !path().exists() => (0.03, BTreeMap::new()),
        Err(wrong) => return Err(wrong),
    };
    for workload in workloads {
        let counted = count(workload)?;
        println!("{:<18} {counted:>14}", workload.name);
        let moved = known.get(workload.name).is_none_or(|old| old.count != counted);
        if moved {
            known.insert(workload.name.into(), Figure { count: counted, reason: reason.trim().into() });
        }
    }
    std::fs::write(path(), render(tolerance, &counted_with()?, &known)).map_err(|e| e.to_string())?;
    Ok(true)
}

/// Compiler and processor family: what other figures than these may come from.
fn counted_with() -> Result<String, String> {
    let version = |program: &str| -> Result<String, String> {
        let output =
            Command::new(program).arg("--version").output().map_err(|e| format!("{program}: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default();
        Ok(line.split(" (").next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}, {}, {}", version("rustc")?, std::env::consts::ARCH, version("valgrind")?))
}

fn render(tolerance: f64, with: &str, figures: &BTreeMap<String, Figure>) -> String {
    let mut text = format!(
        "# Instructions of the workloads of benches/src/counted.rs, release profile, written by\n\
         #     cargo build --release -p windtunnel-benches --bins --benches\n\
         #     target/release/instructions --update \"why\"\n\
         # A count that differs by more than the tolerance fails CI, whether more or less.\n\
         tolerance = {tolerance}\ncounted_with = {}\n",
        toml::Value::from(with)
    );
    for workload in WORKLOADS {
        let Some(figure) = figures.get(workload.name) else { continue };
        let reason = toml::Value::from(figure.reason.as_str());
        let (name, about) = (workload.name, workload.about);
        write!(text, "\n# {about}\n[instructions.{name}]\ncount = {}\nreason = {reason}\n", figure.count)
            .expect("writing to text does not fail");
    }
    text
}
