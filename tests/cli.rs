//! The command line from outside: exit codes, and what goes to which stream.

use std::path::Path;
use std::process::{Command, Output};

/// Runs windtunnel in the workspace with results under a scratch directory.
fn windtunnel(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windtunnel"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("results are UTF-8")
}

/// Wrong input: exit 2, nothing on stdout, every part on stderr, and no results anywhere.
#[track_caller]
fn refused(args: &[&str], parts: &[&str]) {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused");
    let out_text = out.to_str().expect("a UTF-8 path").to_owned();
    let with_out: Vec<&str> = args.iter().copied().chain(["--out", &out_text]).collect();
    let output = windtunnel(&with_out);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(stdout(&output), "");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "escape codes without a terminal:\n{text}");
    assert!(!out.exists(), "wrong input left {}", out.display());
}

#[test]
fn a_missing_file_is_named_and_its_neighbour_suggested() {
    refused(
        &["scenarios/4k-servces.toml"],
        &[
            "cannot read scenarios/4k-servces.toml: there is no such file",
            "did you mean scenarios/4k-services.toml?",
        ],
    );
    refused(&["lst"], &["did you mean the command `list`?"]);
    refused(&["scenarios"], &["it is a directory"]);
}

#[test]
fn wrong_scenarios_are_told_with_place_caret_and_remedy() {
    refused(
        &["scenarios/bad/unknown-key.toml"],
        &[
            "--> scenarios/bad/unknown-key.toml:4:1",
            "^^^^ did you mean `nodes`?",
            "= key: cluster.node",
            "7 errors",
        ],
    );
    refused(&["run", "scenarios/bad/syntax.toml"], &["TOML syntax", "scenarios/bad/syntax.toml:2:16"]);
    refused(&["scenarios/bad/absurd.toml"], &["at most 100,000"]);
    refused(
        &["scenarios/bad/import-missing.toml"],
        &["scenarios/bad/no-such-cluster.json: there is no such file"],
    );
    refused(&["scenarios/bad/import-syntax.toml"], &["scenarios/bad/import-syntax.json:6:1"]);
}

#[test]
fn the_errors_of_all_scenarios_are_told_before_anything_runs() {
    refused(
        &["run", "scenarios/4k-services.toml", "scenarios/bad/cidr.toml", "scenarios/bad/zero.toml"],
        &["bad/cidr.toml:3:16", "bad/zero.toml:4:9"],
    );
}

#[test]
fn wrong_overrides_and_flags_are_input_errors() {
    let scenario = "scenarios/4k-services.toml";
    refused(&[scenario, "--set", "cluster.servces=1"], &["--set:1:1", "did you mean `services`?"]);
    refused(&[scenario, "--set", "duration=5"], &["the unit of `duration` is missing"]);
    refused(&[scenario, "--seed", "18446744073709551615"], &["`seed` must be at most"]);
    refused(&[scenario, "--threads", "0"], &["0 is not in 1..=1024"]);
    refused(&[scenario, "--bogus"], &["unexpected argument '--bogus'"]);
    refused(&["run"], &["required arguments were not provided"]);
}

#[test]
fn help_and_version_are_results() {
    for (args, part) in [
        (&["--help"][..], "Exit codes: 0 fine"),
        (&["run", "--help"], "Examples:"),
        (&["rules", "--help"], "kubectl get services"),
        (&["validate", "--help"], "--max-error"),
        (&["--version"], "windtunnel"),
    ] {
        let output = windtunnel(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout(&output).contains(part), "{part} is not in the output of {args:?}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn lists_are_aligned_and_complete() {
    for (what, names) in [
        ("modes", &["iptables", "ipvs", "nftables", "userspace", "ebpf"][..]),
        ("schedulers", &["rr", "lc", "sh"]),
        ("profiles", &["linux-6.18"]),
        ("metrics", &["first_packet_mean", "first_packet_p99", "network_programming_p50"]),
        ("distributions", &["rules_live"]),
        ("series", &["failures", "up_to_date"]),
    ] {
        let text = stdout(&windtunnel(&["list", what]));
        for name in names {
            assert!(
                text.lines().any(|line| line.split("  ").next() == Some(name)),
                "{name} is not in:\n{text}"
            );
        }
    }
}

#[test]
fn the_schema_is_json_and_completions_are_scripts() {
    let schema: serde_json::Value = serde_json::from_str(&stdout(&windtunnel(&["schema"]))).expect("JSON");
    assert_eq!(schema["properties"]["cluster"]["properties"]["nodes"]["default"], 3);
    assert!(stdout(&windtunnel(&["completions", "bash"])).contains("complete -F _windtunnel"));
}
