//! Seconds from kubectl's JSON to rules: `cargo run --release -p windtunnel-benches --bin objects`.
//!
//! 10,000 Services of 10 endpoints each, printed as kubectl does; every step of `windtunnel rules --from` by itself, the
//! best of some repetitions. `--at-most 1.5` fails with 1 if all of them together take longer; `--write FILE` only
//! writes the JSON, and `--import FILE` only imports such a file, once, so that its memory can be measured.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use sim_core::classify::Family;
use sim_models::config::ProxyConfig;
use sim_models::kube::import::{import, text_of};
use sim_models::kube::resolve::resolve;
use sim_models::proxy::{self, Form};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;
use windtunnel_benches::kubectl;

const SERVICES: u32 = 10_000;
const REPETITIONS: u32 = 3;
const MODES: [&str; 2] = ["iptables", "nftables"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let at_most = match words.as_slice() {
        [] => f64::INFINITY,
        ["--at-most", limit] if limit.parse::<f64>().is_ok() => limit.parse().expect("just parsed"),
        ["--write", file] => {
            return match std::fs::write(file, kubectl::list(SERVICES)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: cannot write {file}: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        ["--import", file] => {
            let read = std::fs::read(file).map_err(|error| error.to_string());
            let text = read.and_then(|bytes| text_of(bytes).map_err(|error| error.to_string()));
            return match text.and_then(|text| import(&text).map_err(|errors| errors[0].to_string())) {
                Ok(objects) => {
                    println!("{} Services, {} slices", objects.services.len(), objects.slices.len());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("error: {file}: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        other => {
            eprintln!(
                "error: wrong arguments {other:?}: only --at-most SECONDS, --write FILE or --import FILE"
            );
            return ExitCode::from(2);
        }
    };
    let bytes = kubectl::list(SERVICES).into_bytes();
    let endpoints = SERVICES * kubectl::ENDPOINTS;
    println!(
        "{SERVICES} Services, {endpoints} endpoints, {:.1} MB of JSON; the best of {REPETITIONS}\n",
        bytes.len() as f64 / 1e6
    );
    let (text_s, text) = best(|| text_of(bytes.clone()).expect("UTF-8"));
    let (import_s, objects) = best(|| import(&text).expect("objects"));
    let node = objects.nodes[0].name.clone();
    let (resolve_s, resolved) = best(|| resolve(&objects, Family::Ipv4, &node));
    println!("{:<24} {text_s:>7.3} s", "bytes to text");
    println!("{:<24} {import_s:>7.3} s", "import");
    println!("{:<24} {resolve_s:>7.3} s", "resolve");
    let mut worst = 0f64;
    for name in MODES {
        let mode = proxy::mode(name).expect("a mode");
        let config = ProxyConfig { mode: name.to_owned(), ..ProxyConfig::default() };
        let (build_s, rules) = best(|| mode.build(&resolved, &config, Family::Ipv4));
        let (print_s, printed) = best(|| mode.print(&rules, Form::Load));
        println!("{:<24} {build_s:>7.3} s", format!("{name}: build"));
        println!("{:<24} {print_s:>7.3} s   {:.1} MB", format!("{name}: print"), printed.len() as f64 / 1e6);
        let all_s = text_s + import_s + resolve_s + build_s + print_s;
        println!("{:<24} {all_s:>7.3} s", format!("{name}: all"));
        worst = worst.max(all_s);
    }
    if worst > at_most {
        println!("\nfrom JSON to rules takes {worst:.2} s, more than {at_most}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Least seconds of `run`, and what it gave.
fn best<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    let mut least = f64::INFINITY;
    let mut given = None;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        let made = black_box(run());
        least = least.min(start.elapsed().as_secs_f64());
        given = Some(made);
    }
    (least, given.expect("at least one repetition"))
}
