//! `windtunnel rules`: its flags.

use super::cluster::ClusterArgs;
use clap::{ArgGroup, Args, ValueEnum};
use sim_core::units::SimSpan;
use std::path::PathBuf;

/// `windtunnel rules`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("cluster").required(true).args(["from", "scenario", "read"])))]
#[command(after_help = "\
Examples:
  kubectl get services,endpointslices,nodes,pods -A -o json > cluster.json
  kubectl -n kube-system get cm kube-proxy -o yaml > kube-proxy.yaml
  windtunnel rules --from cluster.json --proxy-config kube-proxy.yaml --node worker-1
  windtunnel rules --from cluster.json --mode iptables --family both
  windtunnel rules --from cluster.json --mode iptables --kubernetes 1.18 --cluster-cidr 10.244.0.0/16
  kubectl get services,endpointslices,nodes -A -o json | windtunnel rules --from - --mode ipvs
  windtunnel rules --scenario scenarios/4k-services.toml --mode nftables --format json

What a change of the cluster makes kube-proxy write:
  windtunnel rules --sync-from before.json --from after.json --mode iptables

What differs between a node and what its objects call for (exit 3 if anything does):
  ssh worker-1 iptables-save | windtunnel rules --from cluster.json --node worker-1 --diff -
  ssh worker-1 nft list ruleset | windtunnel rules --from cluster.json --mode nftables --family both --diff -

A dump of nft as its JSON:
  nft list ruleset | windtunnel rules --read - --mode nftables --format json

What is printed is what the mode's tools read back: iptables-restore, nft -f -, and for ipvs several
sections, each headed by the command that loads it; for ebpf, tables. Lines that begin with # are comments. With
--family both, IPv4 comes first; sections of iptables name the command that loads them.

Flags win over --proxy-config. Without either, mode is iptables and everything else kube-proxy's default.

With --keep-going broken objects are told on stderr and left out, and the exit code is 0 all the same:
look at stderr.

Of versions before 1.36 this is modelled: in iptables mode the names of unnamed ports (before 1.19)
and the masquerade rules in KUBE-SERVICES (before 1.21), in nftables mode a chain per endpoint (before
1.36), userspace mode as in 1.25. All else is as in 1.36, and a note on stderr says so.")]
pub struct RulesArgs {
    /// The cluster and the node.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Address family.
    #[arg(long, value_enum, default_value_t = FamilyArg::Ipv4)]
    pub family: FamilyArg,
    /// What is printed; not every mode has every form.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = FormatArg::Load)]
    pub format: FormatArg,
    /// Print what kube-proxy writes to its tools' stdin to get from this earlier state of the cluster to --from:
    /// Services arrive first, then their slices. Repeated, oldest first, it is the history before.
    #[arg(long, value_name = "OLD.json", conflicts_with_all = ["scenario", "format", "diff", "read"])]
    pub sync_from: Vec<PathBuf>,
    /// Time between two of these states: nftables mode deletes emptied chains a second later, iptables mode looks for
    /// unused chains of a large cluster once in syncPeriod.
    #[arg(long, value_name = "TIME", value_parser = parse_span, default_value = "5s", requires = "sync_from")]
    pub apart: SimSpan,
    /// Print how a node's dump differs from its rules; `-` is stdin. Exit 3 if it does.
    #[arg(long, value_name = "DUMP", conflicts_with_all = ["format", "read"])]
    pub diff: Option<PathBuf>,
    /// All differences, not only the first 50.
    #[arg(long, requires = "diff")]
    pub all: bool,
    /// Read a dump and print it again, in any --format of the --mode; `-` is stdin.
    #[arg(long, value_name = "DUMP", requires = "mode", conflicts_with_all = [
        "node", "node_address", "cluster_cidr", "kubernetes", "backend", "scheduler", "apart", "proxy_config", "set",
        "keep_going",
    ])]
    pub read: Option<PathBuf>,
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FamilyArg {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// IPv4, then IPv6.
    Both,
}

/// Forms of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// What the mode's tools load: every mode.
    Load,
    /// As `nft -j list ruleset`: nftables.
    Json,
    /// What people look at, as `ipvsadm -Ln`: ipvs and modes without a tool.
    Listing,
    /// What kube-proxy writes to its tools at the first sync.
    Stdin,
}

/// A time between two states of a cluster.
fn parse_span(text: &str) -> Result<SimSpan, String> {
    let span = scenarios::quantity::span(text)?;
    if span > SimSpan::from_secs(24 * 3600) {
        return Err(format!("`{text}` is longer than a day"));
    }
    Ok(span)
}
