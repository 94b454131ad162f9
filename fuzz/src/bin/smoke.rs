//! Every parser over its seeds and texts made from them: `cargo run --release --bin smoke [-- [--runs N] [TARGET...]]`.
//!
//! Needs nothing but Rust, and is the same on every machine. A text that breaks a parser is written to
//! `artifacts/<target>/`, and its name told; put it into `corpus/` once it is understood.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use windtunnel_fuzz::mutate::Mutator;
use windtunnel_fuzz::{TARGETS, Target};

/// Texts for each target where nothing else is said.
const RUNS: u64 = 20_000;
/// Of the random numbers.
const KEY: u64 = 0x77_696e_6474_756e;

fn main() -> ExitCode {
    let mut runs = RUNS;
    let mut wanted: Vec<String> = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--runs" {
            match arguments.next().and_then(|runs| runs.parse().ok()) {
                Some(given) => runs = given,
                None => return refuse("--runs takes a number"),
            }
        } else if TARGETS.iter().any(|target| target.name == argument) {
            wanted.push(argument);
        } else {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            return refuse(&format!("there is no target {argument}: {}", names.join(", ")));
        }
    }
    let mut broken = 0;
    for target in TARGETS.iter().filter(|t| wanted.is_empty() || wanted.iter().any(|name| name == t.name)) {
        match smoke(target, runs) {
            Ok((seeds, taken)) => {
                println!(
                    "{:<10} {seeds} seeds, {runs} texts, {taken} of them taken: nothing broke",
                    target.name
                );
            }
            Err(message) => {
                println!("{:<10} {message}", target.name);
                broken += 1;
            }
        }
    }
    if broken > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(2)
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs one target over its seeds and as many texts made from them. The numbers of seeds and of texts
/// that it took, or what broke it.
fn smoke(target: &Target, runs: u64) -> Result<(usize, u64), String> {
    let folder = home().join("corpus").join(target.name);
    let told = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&folder).map_err(told)? {
        files.push(entry.map_err(told)?.path());
    }
    // Folders list their files in no order.
    files.sort();
    let seeds = files.iter().map(fs::read).collect::<Result<Vec<_>, _>>().map_err(told)?;
    for (seed, file) in seeds.iter().zip(&files) {
        check(target, seed).map_err(|message| format!("{} breaks it: {message}", file.display()))?;
    }
    let mut taken = 0;
    let mut mutator = Mutator::new(target, &seeds, KEY);
    for run in 0..runs {
        let text = mutator.text();
        let checked = check(target, &text);
        taken += u64::from(checked == Ok(true));
        if let Err(message) = checked {
            let folder = home().join("artifacts").join(target.name);
            let file = folder.join(format!("smoke-{run}"));
            let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, &text));
            let place = match written {
                Ok(()) => format!("it is {}", file.display()),
                Err(error) => format!("it cannot be written to {}: {error}", file.display()),
            };
            return Err(format!("text {run} breaks it: {message}; {place}"));
        }
    }
    Ok((seeds.len(), taken))
}

fn check(target: &Target, text: &[u8]) -> Result<bool, String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(text))).map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        message.lines().next().unwrap_or_default().to_owned()
    })
}
