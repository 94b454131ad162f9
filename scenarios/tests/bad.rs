//! Every wrong scenario in `bad/` gets exactly the diagnostics in the `.txt` beside it.
//!
//! `UPDATE=1 cargo test -p windtunnel-scenarios --test bad` writes them anew; read the difference.

use scenarios::diagnostic::Style;
use scenarios::known::{Known, ModeHistory, Named};
use scenarios::plan::Plan;
use scenarios::scenario::Scenario;
use std::fs;
use std::path::{Path, PathBuf};

fn known() -> Known {
    let list = |names: &[&str]| Named::list(&names.iter().map(|n| (*n, "")).collect::<Vec<_>>());
    Known {
        modes: list(&["iptables", "ipvs", "nftables"]),
        rules_only: list(&["userspace", "ebpf"]),
        schedulers: list(&["rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh"]),
        profiles: list(&["linux-6.18", "linux-6.1-instructions"]),
        metrics: list(&["first_packet_mean", "first_packet_p50", "first_packet_p99"]),
        kubernetes_minors: (20, 36),
        mode_history: vec![ModeHistory {
            mode: "nftables".into(),
            first_minor: 29,
            told: "alpha in 1.29, stable in 1.33".into(),
        }],
        ..Known::default()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bad")
}

fn bad_scenarios() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder exists")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

/// What a scenario gets; its import, where it names one, lies in the same folder.
fn diagnostics(file: &str, text: &str) -> Option<String> {
    let mut scenario = match Scenario::parse(file, text) {
        Ok(scenario) => scenario,
        Err(wrong) => return Some(wrong.render(Style::Plain)),
    };
    if let Some(import) = scenario.import().map(str::to_owned) {
        match fs::read_to_string(folder().join(&import)) {
            Ok(text) => scenario.import_text(&format!("bad/{import}"), &text),
            Err(_) => scenario.import_failed(&format!("bad/{import}: there is no such file")),
        }
    }
    if let Some(config) = scenario.proxy_config().map(str::to_owned) {
        match fs::read_to_string(folder().join(&config)) {
            Ok(text) => scenario.proxy_config_text(&format!("bad/{config}"), &text),
            Err(_) => scenario.proxy_config_failed(&format!("bad/{config}: there is no such file")),
        }
    }
    Plan::new(&scenario, &known()).err().map(|wrong| wrong.render(Style::Plain))
}

#[test]
fn every_bad_scenario_gets_its_golden_diagnostics() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    let files = bad_scenarios();
    assert!(files.len() >= 15, "only {} bad scenarios were found", files.len());
    for path in files {
        let name = format!("bad/{}", path.file_name().expect("a file").to_string_lossy());
        let text = fs::read_to_string(&path).expect("readable");
        let got = diagnostics(&name, &text).unwrap_or_else(|| panic!("{name} was planned"));
        let golden = path.with_extension("txt");
        if update {
            fs::write(&golden, &got).expect("writable");
        } else if fs::read_to_string(&golden).unwrap_or_default() != got {
            wrong.push(format!("{name} gives\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_scenario_cut_off_anywhere_never_panics() {
    for path in bad_scenarios() {
        let text = fs::read_to_string(&path).expect("readable");
        for end in (0..text.len()).filter(|i| text.is_char_boundary(*i)) {
            let _ = diagnostics("cut.toml", &text[..end]);
        }
    }
}
