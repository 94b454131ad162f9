//! `windtunnel explain` from outside: each file of `tests/data/explain/` is a command and all that it prints.
//!
//! `UPDATE=1 cargo test --test explain` writes them anew; read the diff, and say in the changelog what changed. Work and
//! cost stand only in the files whose names begin with `whole-`: they move with every profile.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use support::{windtunnel_with, words};

/// Everything that a command gives back, in the form of the files.
fn transcript(command: &str, whole: bool) -> String {
    let words = words(command);
    let args: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = windtunnel_with(&args, "");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (mut stdout, stderr) = (text(output.stdout), text(output.stderr));
    if let (false, Some(at)) = (whole, stdout.find("\nwork  ")) {
        stdout.truncate(at + 1);
    }
    let mut out = format!("$ windtunnel {command}\n{stdout}");
    if !stderr.is_empty() {
        let _ = write!(out, "--- stderr\n{stderr}");
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => {
            let _ = writeln!(out, "--- exit {code}");
        }
        None => panic!("{command}: ended by a signal"),
    }
    out
}

#[test]
fn explanations_are_those_of_the_goldens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/explain");
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the goldens").map(|e| e.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() >= 20, "goldens are missing");
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = String::new();
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let golden = fs::read_to_string(&file).expect("a golden");
        let first = golden.lines().next().unwrap_or_default();
        let command = first.strip_prefix("$ windtunnel ").unwrap_or_else(|| panic!("{name}: no command"));
        let now = transcript(command, name.starts_with("whole-"));
        let long =
            now.lines().skip(1).take_while(|l| !l.starts_with("--- ")).find(|l| l.chars().count() > 100);
        if let (Some(line), false) = (long, command.contains("-o json")) {
            let _ = writeln!(wrong, "{name}: longer than 100 columns: {line}");
        }
        if now != golden {
            if update {
                fs::write(&file, &now).expect("writable");
            } else {
                let _ = writeln!(wrong, "{name} differs; it is now:\n{now}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_data_of_an_explanation_adds_up() {
    for mode in ["iptables", "ipvs", "nftables"] {
        let args = ["explain", "--from", "docs/cart.json", "--mode", mode, "-o", "json", "--packet"];
        let output = windtunnel_with(&[&args[..], &["tcp 10.244.1.7:40000 > 10.96.20.7:80"]].concat(), "");
        let data: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let outcomes = data["outcomes"].as_array().expect("outcomes");
        assert_eq!(outcomes.len(), 2, "{mode}");
        let sum: f64 = outcomes.iter().map(|o| o["probability"].as_f64().expect("a number")).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{mode}: {sum}");
        let exact =
            |o: &serde_json::Value| (o["exact"]["numerator"].clone(), o["exact"]["denominator"].clone());
        assert!(outcomes.iter().all(|o| exact(o) == ("1".into(), "2".into())), "{mode}");
        assert_eq!(data["verdict"], "DNAT", "{mode}");
        assert_eq!(outcomes.iter().filter(|o| o["shown"] == true).count(), 1, "{mode}");
        let walk = data["walk"].as_array().expect("steps");
        assert_eq!(walk.first().expect("a step")["step"], "hook", "{mode}");
        assert!(walk.iter().any(|step| step["step"] == "conntrack" && step["state"] == "NEW"), "{mode}");
        assert_eq!(walk.last().expect("a step")["verdict"], "ACCEPT", "{mode}");
        assert!(data["work"]["ct_lookup"].as_u64() == Some(1), "{mode}");
        assert!(data["cost"].as_array().is_some_and(|all| all.len() >= 2), "{mode}");
    }
}

#[test]
fn nothing_that_is_typed_as_a_packet_breaks_the_command() {
    for packet in [
        "",
        ">",
        "tcp",
        "tcp >",
        "a > b",
        "tcp 1.2.3.4:1 > 5.6.7.8",
        "tcp [::1]:1 > 1.2.3.4:1",
        "tcp \u{1f980} > \u{7}",
    ] {
        let output = windtunnel_with(&["explain", "--from", "docs/cart.json", "--packet", packet], "");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{packet:?}: {text}");
        assert!(text.contains("--> --packet:1:") && text.contains("= allowed: "), "{packet:?}: {text}");
        assert!(output.stdout.is_empty(), "{packet:?}");
    }
}
