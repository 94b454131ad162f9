//! Recorded cases: objects, configuration, and what kube-proxy 1.36.2 gave to its tools.

use ipnet::IpNet;
use sim_core::classify::Family;
use sim_core::units::{SimSpan, SimTime};
use sim_models::config::ProxyConfig;
use sim_models::kube::ProxyObjects;
use sim_models::kube::import::import;
use sim_models::kube::objects::Objects;
use sim_models::proxy::input::ToolInput;
use sim_models::proxy::{ProxyMode, iptables};
use std::fs;
use std::path::{Path, PathBuf};

/// The node that everything was recorded on.
pub const NODE: &str = "node-a";

/// Folder of the recorded cases.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube-proxy")
}

/// Names of the folders inside one, sorted.
pub fn folders(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn objects(path: &Path) -> Objects {
    import(&read(path)).unwrap_or_else(|errors| panic!("{}: {errors:#?}", path.display()))
}

/// kube-proxy's configuration in a folder: only its clusterCIDR differs from case to case.
pub fn config(folder: &Path) -> ProxyConfig {
    let file: serde_json::Value = serde_json::from_str(&read(&folder.join("kube-proxy.yaml"))).unwrap();
    let cidrs = file["clusterCIDR"].as_str().unwrap();
    let cluster_cidrs = cidrs.split(',').map(|cidr| cidr.parse::<IpNet>().unwrap()).collect();
    ProxyConfig { cluster_cidrs, ..ProxyConfig::default() }
}

/// The runs of tools in a recorded file: each begins with a line that has five `#` and the command.
pub fn recorded(path: &Path) -> Vec<ToolInput> {
    let text = read(path);
    let runs = text.split("##### ").skip(1).map(|run| {
        let (command, stdin) = run.split_once('\n').unwrap();
        ToolInput { command: command.to_owned(), stdin: stdin.to_owned() }
    });
    runs.collect()
}

/// The same of the tool of one family.
pub fn recorded_of(path: &Path, family: Family) -> Vec<ToolInput> {
    let program = match family {
        Family::Ipv4 => "iptables-restore ",
        Family::Ipv6 => "ip6tables-restore ",
    };
    recorded(path).into_iter().filter(|run| run.command.starts_with(program)).collect()
}

/// What iptables mode writes while the objects go through these states, a second apart.
pub fn inputs(states: &[ProxyObjects], config: &ProxyConfig, family: Family) -> Vec<Vec<ToolInput>> {
    inputs_apart(SimSpan::from_secs(1), states, config, family)
}

/// The same with another time between states.
pub fn inputs_apart(
    apart: SimSpan,
    states: &[ProxyObjects],
    config: &ProxyConfig,
    family: Family,
) -> Vec<Vec<ToolInput>> {
    let times = (0u64..).map(|i| SimTime::ZERO + apart.times(i));
    let states: Vec<(SimTime, ProxyObjects)> = times.zip(states.iter().cloned()).collect();
    iptables::mode::Iptables.inputs(&states, config, family).expect("iptables mode uses iptables-restore")
}
