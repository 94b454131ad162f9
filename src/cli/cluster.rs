//! Which cluster, which node, and how its kube-proxy is set up: flags that every command about one node's rules takes.

use clap::{Args, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;

/// A cluster, and a node of it.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// What `kubectl get services,endpointslices,nodes,pods -A -o json` prints; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// The cluster of a scenario instead, with its [proxy] settings; of a sweep, the first point.
    #[arg(long, value_name = "SCENARIO.toml")]
    pub scenario: Option<PathBuf>,
    /// Set a key over the scenario's value. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "from")]
    pub set: Vec<String>,
    /// kube-proxy's configuration: KubeProxyConfiguration v1alpha1, YAML or JSON, or the ConfigMap that holds it.
    /// Gives the mode and, by hostnameOverride, the node. Of featureGates AllowServiceExternalIPs,
    /// PreferSameTrafficDistribution and MultiCIDRServiceAllocator count; others shape no rule.
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    pub proxy_config: Option<PathBuf>,
    /// Proxy mode; `windtunnel list modes` has them. Default: that of --proxy-config, the scenario's first, or
    /// iptables.
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// Node whose rules they are. Default: hostnameOverride of --proxy-config, or the first.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Address of an interface that the Node object does not list, for nodePortAddresses. May be repeated.
    #[arg(long, value_name = "IP")]
    pub node_address: Vec<IpAddr>,
    /// What stands behind the node's iptables command. Default: legacy, or the scenario's.
    #[arg(long, value_enum)]
    pub backend: Option<BackendArg>,
    /// Version of kube-proxy. Default: 1.36, or the scenario's, or the last that has the mode.
    #[arg(long, value_name = "VERSION")]
    pub kubernetes: Option<String>,
    /// Network of all pods, kube-proxy's clusterCIDR: traffic from outside of it is masqueraded. One a family,
    /// after a comma. Default: that of --proxy-config, the scenario's, or the smallest network that holds the pod
    /// CIDRs of all nodes (a guess, told on stderr); if the nodes have none, nothing tells local traffic from other
    /// traffic.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub cluster_cidr: Vec<ipnet::IpNet>,
    /// IPVS scheduler; `windtunnel list schedulers` has them. Default: rr, or the configuration's.
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// Tell broken objects, leave them out and go on.
    #[arg(long, conflicts_with = "scenario")]
    pub keep_going: bool,
}

/// What an `iptables` command can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// iptables-legacy.
    Legacy,
    /// iptables-nft.
    Nft,
}
