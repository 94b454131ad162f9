//! `windtunnel explain`: its flags.

use super::cluster::ClusterArgs;
use clap::{ArgGroup, Args, ValueEnum};
use std::path::PathBuf;

/// `windtunnel explain`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("cluster").required(true).args(["from", "scenario", "rules"])))]
#[command(after_help = "\
Examples:
  kubectl get services,endpointslices,nodes,pods -A -o json > cluster.json
  windtunnel explain --from cluster.json --packet \"tcp 10.244.1.5 > 10.96.0.1:443\"
  windtunnel explain --from cluster.json --mode nftables --node worker-1 \\
      --packet \"tcp 198.51.100.7:51000 > 192.168.0.2:30080\"
  windtunnel explain --from cluster.json --packet \"udp [fd00::5] > [fd00:10::a]:53\" --all-modes

What a node has, not what it should have:
  ssh worker-1 iptables-save > rules.txt
  windtunnel explain --rules rules.txt --node-address 192.168.0.2 \
      --packet \"tcp 10.244.1.5 > 10.96.0.1:443\"
  windtunnel explain --rules iptables.txt --rules ipset.txt --rules ipvsadm.txt --rules ipvs0.txt \\
      --packet \"tcp 10.244.1.5 > 10.96.0.1:443\"
  (iptables-save, ipset save, ipvsadm -Sn, ip addr show dev kube-ipvs0)

A packet is PROTOCOL SOURCE[:PORT] > DESTINATION:PORT, with tcp, udp, sctp, icmp (which has no
ports) or another protocol's name or number. IPv6 addresses stand in [ ] where a port follows. A
tcp packet is a SYN, unless --established, --flow or --flags says otherwise. Its addresses decide on
the family.

Without --node the rules are those of the node that the packet meets first: its source's, or for one
from outside that of its destination.

Where chance decides, the walk shows the first way, or with --seed one at random. The verdict has
all of them with their probabilities. The node has seen no packet before, save those of --flow.

-o json has the same content under fixed names, which the README lists.")]
pub struct ExplainArgs {
    /// The cluster and the node.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What the node's own tools list: iptables-save, nft list ruleset (text or JSON), or for ipvs the outputs of
    /// ipset save, iptables-save, ipvsadm -Sn and ip addr show dev kube-ipvs0; `-` is stdin. Several files are one
    /// node's. The format is recognised; --mode says it.
    #[arg(long, value_name = "DUMP", conflicts_with_all = [
        "node", "proxy_config", "backend", "kubernetes", "cluster_cidr", "scheduler", "set", "keep_going",
    ])]
    pub rules: Vec<PathBuf>,
    /// Go on where a dump has matches or targets that are not modelled: such a match never matches, such a target does
    /// nothing, and each is told.
    #[arg(long, requires = "rules")]
    pub allow_opaque: bool,
    /// The packet, for example "tcp 10.244.1.5:40000 > 10.96.0.1:443".
    #[arg(long, value_name = "PACKET")]
    pub packet: String,
    /// Where it comes from. Default: host if its source is an address of the node, wire if its source is no pod of the
    /// node, else pod.
    #[arg(long, value_enum, value_name = "WHERE")]
    pub origin: Option<OriginArg>,
    /// The device that it comes in by, as rules with `-i` or `iifname` name it. Default: veth0 from pods, eth0 from the
    /// network; a packet made on the node has none.
    #[arg(long, value_name = "DEVICE")]
    pub in_interface: Option<String>,
    /// Its mark when it comes in: 0x4000 or a decimal number.
    #[arg(long, value_name = "MARK", value_parser = parse_mark, default_value = "0")]
    pub mark: u32,
    /// TCP flags: syn, ack, fin, rst, psh, urg, after commas. Default: syn; with --established or --flow ack.
    #[arg(long, value_name = "FLAGS", value_delimiter = ',', value_enum)]
    pub flags: Vec<FlagArg>,
    /// The packet's own connection exists already: this is a later packet of it.
    #[arg(long, conflicts_with = "flow")]
    pub established: bool,
    /// A connection that exists already, by its first packet: --packet may be an answer in it.
    #[arg(long, value_name = "PACKET")]
    pub flow: Option<String>,
    /// Show a way that chance takes under this seed instead of the first.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Show the way that leads to this backend: ADDRESS or ADDRESS:PORT.
    #[arg(long, value_name = "BACKEND", conflicts_with = "seed")]
    pub to: Option<String>,
    /// Show every rule that was evaluated, those that did not match too.
    #[arg(long)]
    pub full: bool,
    /// Every mode that packets can be walked through, side by side.
    #[arg(long, conflicts_with_all = ["rules", "full", "to", "mode"])]
    pub all_modes: bool,
    /// Cost profile; `windtunnel list profiles` has them. May be repeated. Default: all.
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
    /// What is printed on stdout.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ExplainFormat::Text)]
    pub output: ExplainFormat,
}

/// Forms of an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where a packet enters a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OriginArg {
    /// From a pod of the node.
    Pod,
    /// From the network.
    Wire,
    /// From a process on the node itself.
    Host,
}

/// TCP flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlagArg {
    /// Synchronise.
    Syn,
    /// Acknowledge.
    Ack,
    /// Finish.
    Fin,
    /// Reset.
    Rst,
    /// Push.
    Psh,
    /// Urgent.
    Urg,
    /// None of them.
    None,
}

/// A mark, as iptables prints it or as a number.
fn parse_mark(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no mark: 0x0 to 0xffffffff, or 0 to 4294967295"))
}
