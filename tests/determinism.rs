//! The same inputs give the same bytes: on one thread and on two, today and again; and an interrupted run leaves
//! nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SCENARIO: &str = r#"
title = "small"
seed = 3
duration = "500ms"
[cluster]
nodes = 3
services = 20
endpoints = 2
[proxy]
modes = ["iptables", "ipvs", "nftables"]
[[traffic]]
name = "clients"
rate = "200/s per node"
[churn]
rate = "4/s"
[sweep]
"cluster.services" = [10, 20, 40]
"#;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("windtunnel-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn windtunnel() -> Command {
    Command::new(env!("CARGO_BIN_EXE_windtunnel"))
}

fn run(folder: &Path, out: &str, threads: &str) -> PathBuf {
    let scenario = folder.join("small.toml");
    fs::write(&scenario, SCENARIO).unwrap();
    let out = folder.join(out);
    let status = windtunnel()
        .args(["run", "--threads", threads, "--out"])
        .arg(&out)
        .arg(&scenario)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    out.join("small/latest")
}

/// Every file of a run, by name.
fn files(run: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![fs::canonicalize(run).unwrap()];
    let root = folders[0].clone();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push((path.strip_prefix(&root).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn one_thread_two_threads_and_a_second_run_write_the_same_bytes() {
    let folder = folder("bytes");
    let one = files(&run(&folder, "one", "1"));
    assert!(one.iter().any(|(name, _)| name == Path::new("record.json")));
    for (out, threads) in [("two", "2"), ("again", "2")] {
        let other = files(&run(&folder, out, threads));
        for ((name, a), (_, b)) in one.iter().zip(&other) {
            assert!(a == b, "{} differs with {threads} threads", name.display());
        }
        assert_eq!(one.len(), other.len());
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_exits_with_130_and_leaves_no_run_behind() {
    let folder = folder("interrupt");
    let scenario = folder.join("long.toml");
    let long = SCENARIO.replace("500ms", "10m").replace("200/s", "2000/s");
    fs::write(&scenario, long).unwrap();
    let out = folder.join("out");
    let mut child = windtunnel()
        .arg("run")
        .arg("--out")
        .arg(&out)
        .arg(&scenario)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let left: Vec<_> = fs::read_dir(&out).map(|d| d.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "left behind: {left:?}");
    fs::remove_dir_all(&folder).unwrap();
}
