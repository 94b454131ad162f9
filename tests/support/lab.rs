//! Running scripts as root in network namespaces of their own, where the machine can.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A line on stderr that the test harness does not swallow.
pub fn say(line: &str) {
    writeln!(std::io::stderr(), "kernel: {line}").expect("stderr is there");
}

/// A program that finds administrators' tools, which are often not on a user's path.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

/// Runs a shell script, up to its first failure, in a network namespace that ends with it.
pub fn in_namespace(script: &str, args: &[&Path]) -> Output {
    let mut command = command("unshare");
    command.args(["-n", "sh", "-e", "-c", script, "sh"]).args(args);
    command.output().unwrap_or_else(|error| panic!("unshare: {error}"))
}

/// What a script printed, which must not fail.
#[track_caller]
pub fn output_of(script: &str, args: &[&Path]) -> String {
    let output = in_namespace(script, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{}: {stderr}", output.status);
    String::from_utf8(output.stdout).expect("the tools print UTF-8")
}

/// Whether this machine can do the test; says so if not.
pub fn able(test: &str, tools: &[&str]) -> bool {
    let succeeds = |program: &str, args: &[&str]| {
        command(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let is_there = |tool: &&str| succeeds("sh", &["-c", &format!("command -v {tool}")]);
    let mut missing: Vec<&str> =
        tools.iter().chain(&["unshare"]).copied().filter(|tool| !is_there(tool)).collect();
    if missing.is_empty() && !succeeds("unshare", &["-n", "true"]) {
        missing.push("the right to make a network namespace (root)");
    }
    if missing.is_empty() {
        return true;
    }
    let needs = missing.join(", ");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: needs {needs}");
    say(&format!("{test}: skipped: needs {needs}"));
    false
}

/// Whether this machine has the parts of ipvs mode that can be loaded without IP_VS itself, and if so, whether it has dummy
/// devices; says what is missing.
pub fn ipvs_parts() -> Option<bool> {
    let tools = ["ipset", "iptables-legacy", "iptables-legacy-restore", "iptables-legacy-save", "ip"];
    if !able("ipvs", &tools) {
        return None;
    }
    if !in_namespace("ipset create probe hash:ip", &[]).status.success() {
        say("ipvs: skipped: needs a kernel with ip_set");
        return None;
    }
    Some(in_namespace("ip link add probe type dummy", &[]).status.success())
}

/// A file for the tools to read.
pub fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("a scratch file");
    path
}

/// Matches of the rules that a kernel or a machine may lack, and how to find out.
const OPTIONAL: [(&str, &str); 3] = [
    (" -m nfacct ", "nfacct add probe && iptables-legacy -A INPUT -m nfacct --nfacct-name probe"),
    (" -m recent ", "iptables-legacy -A INPUT -m recent --name probe --rcheck --seconds 9"),
    (" -m statistic ", "iptables-legacy -A INPUT -m statistic --mode random --probability 0.5"),
];

/// The rules without those that cannot be loaded here.
pub fn loadable(what: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for (part, probe) in OPTIONAL {
        let count = text.lines().filter(|line| line.contains(part)).count();
        if count > 0 && !in_namespace(probe, &[]).status.success() {
            say(&format!("{what}: without its {count} rules with{part}which this machine cannot load"));
            text = text.lines().filter(|l| !l.contains(part)).map(|line| format!("{line}\n")).collect();
        }
    }
    text
}

/// A script's lines that make the counters which rules name; kube-proxy makes them before its first sync.
pub fn counters(text: &str) -> String {
    let named = text.split("--nfacct-name").skip(1).filter_map(|rest| rest.split_whitespace().next());
    named.collect::<BTreeSet<_>>().iter().map(|name| format!("nfacct add {name}\n")).collect()
}
