//! The metrics that reports know: label, unit, group and meaning of each.
//!
//! One table, used by the terminal table, Markdown, HTML, charts and `windtunnel list metrics`. A metric that is not
//! here is still shown, under its raw name and in the group [`Group::Other`].

/// What a metric is about; tables are ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Cost of the first packet of a connection.
    FirstPacket,
    /// Cost of later packets of a connection.
    EstablishedPacket,
    /// Time as a client sees it, queueing included.
    Latency,
    /// Work counted by lookups.
    Work,
    /// Writing the rules.
    Sync,
    /// A change's way to every node.
    Change,
    /// kube-proxy's processes.
    Proxy,
    /// API server and watches.
    Control,
    /// What the rules occupy.
    Size,
    /// Traffic and what became of it.
    Load,
    /// Not in the table of known metrics.
    Other,
}

impl Group {
    /// Heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::FirstPacket => "First packet of a connection",
            Group::EstablishedPacket => "Established packets",
            Group::Latency => "Latency, queueing included",
            Group::Work => "Work per first packet",
            Group::Sync => "Sync",
            Group::Change => "From a change to every node",
            Group::Proxy => "kube-proxy",
            Group::Control => "Control plane",
            Group::Size => "Size",
            Group::Load => "Load",
            Group::Other => "Other",
        }
    }
}

/// One known metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Name in records, gates and CSV.
    pub name: &'static str,
    /// Name for people, lower case.
    pub label: &'static str,
    /// Its unit in records; `cost` is the unit of the profile, `ns` or `instr`.
    pub unit: &'static str,
    /// What it belongs to.
    pub group: Group,
    /// Whether a lower value is better; if not, it is neither good nor bad.
    pub lower_is_better: bool,
    /// Whether it is left to the full reports and not shown in the terminal.
    pub detail: bool,
    /// What it says, in one sentence.
    pub description: &'static str,
}

const fn row(
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    group: Group,
    lower_is_better: bool,
    detail: bool,
    description: &'static str,
) -> Known {
    Known { name, label, unit, group, lower_is_better, detail, description }
}

/// Every known metric, in the order in which tables show them.
#[rustfmt::skip]
pub const KNOWN: &[Known] = &[
    row("first_packet_mean", "first packet, mean", "cost", Group::FirstPacket, true, false, "Mean cost of classifying the first packet of a connection on the client's node."),
    row("first_packet_p50", "first packet, p50", "cost", Group::FirstPacket, true, false, "Median cost of a first packet."),
    row("first_packet_p99", "first packet, p99", "cost", Group::FirstPacket, true, false, "Cost that one first packet in a hundred exceeds."),
    row("server_node_first_packet_mean", "first packet on the server's node, mean", "cost", Group::FirstPacket, true, true, "Mean cost of a first packet on the node of the pod that it reaches."),
    row("established_packet_mean", "established packet, mean", "cost", Group::EstablishedPacket, true, false, "Mean cost of a packet of a connection that conntrack knows."),
    row("established_packet_p50", "established packet, p50", "cost", Group::EstablishedPacket, true, false, "Median cost of an established packet."),
    row("established_packet_p99", "established packet, p99", "cost", Group::EstablishedPacket, true, false, "Cost that one established packet in a hundred exceeds."),
    row("first_packet_latency_p50", "first packet latency, p50", "ns", Group::Latency, true, false, "Median time that a first packet spends on the client's node: waiting for a core, and its cost."),
    row("first_packet_latency_p99", "first packet latency, p99", "ns", Group::Latency, true, false, "Time on the client's node that one first packet in a hundred exceeds, waiting for a core included."),
    row("connection_p50", "connection, p50", "ns", Group::Latency, true, false, "Median time from opening a connection to its last packet, network and service time included."),
    row("connection_p99", "connection, p99", "ns", Group::Latency, true, false, "Time that one connection in a hundred exceeds, from opening to last packet."),
    row("rules_evaluated_mean", "rules evaluated", "count", Group::Work, false, false, "Rules evaluated for a first packet, mean; counted by real lookups."),
    row("hash_probes_mean", "hash probes", "count", Group::Work, false, false, "Hash buckets looked into and entries compared there for a first packet, mean; counted by real lookups."),
    row("first_full_sync", "first full sync", "ns", Group::Sync, true, false, "Time that kube-proxy takes to write all rules for the first time."),
    row("endpoint_change_sync", "sync of one endpoint change", "ns", Group::Sync, true, false, "Time that kube-proxy takes to write the change of one endpoint."),
    row("sync_duration_p50", "sync, p50", "ns", Group::Sync, true, false, "Median time of one sync of kube-proxy while measuring (kubeproxy_sync_proxy_rules_duration_seconds)."),
    row("sync_duration_p99", "sync, p99", "ns", Group::Sync, true, false, "Time that one sync in a hundred exceeds."),
    row("full_syncs", "full syncs", "count", Group::Sync, false, false, "Syncs that wrote all rules, on all nodes, while measuring."),
    row("partial_syncs", "partial syncs", "count", Group::Sync, false, false, "Syncs that wrote only what had changed, on all nodes, while measuring."),
    row("lock_wait_p99", "wait for the xtables lock, p99", "ns", Group::Sync, true, false, "Wait for the xtables lock that one sync in a hundred exceeds."),
    row("restore_failures", "failed restores", "count", Group::Sync, true, false, "Restores and transactions that failed and were tried again (kubeproxy_sync_proxy_rules_iptables_restore_failures_total and its like)."),
    row("tool_add_one", "one more Service, by the tool", "ns", Group::Sync, true, true, "Time that one call of the mode's own tool takes to add one Service to all that are there."),
    row("tool_add_all", "all Services one by one, by the tool", "ns", Group::Sync, true, true, "Time to add all Services with one call of the tool for each."),
    row("changes", "changes", "count", Group::Change, false, false, "Changes of Services and endpoints while measuring."),
    row("changes_superseded", "changes superseded", "count", Group::Change, false, true, "Pairs of change and node in which a later change of the same object reached the node's kernel in its stead."),
    row("network_programming_p50", "network programming, p50", "ns", Group::Change, true, false, "Median time, over changes and nodes, from what triggered a change to the end of the sync that wrote it (kubeproxy_network_programming_duration_seconds)."),
    row("network_programming_p90", "network programming, p90", "ns", Group::Change, true, false, "Network programming latency that one change and node in ten exceeds."),
    row("network_programming_p99", "network programming, p99", "ns", Group::Change, true, false, "Network programming latency that one change and node in a hundred exceeds."),
    row("rules_live_p50", "rules live, p50", "ns", Group::Change, true, true, "Median time, over changes and nodes, from a change to the instant at which the node's kernel has it."),
    row("rules_live_p90", "rules live, p90", "ns", Group::Change, true, true, "Time to the kernel that one change and node in ten exceeds."),
    row("rules_live_p99", "rules live, p99", "ns", Group::Change, true, false, "Time to the kernel that one change and node in a hundred exceeds."),
    row("convergence_p50", "convergence, p50", "ns", Group::Change, true, false, "Median time from an endpoint change to its being live on every node."),
    row("convergence_p90", "convergence, p90", "ns", Group::Change, true, true, "Time that one endpoint change in ten exceeds until it is live on every node."),
    row("convergence_p99", "convergence, p99", "ns", Group::Change, true, false, "Time that one endpoint change in a hundred exceeds until it is live on every node."),
    row("first_service_after", "new node unusable", "ns", Group::Change, true, false, "Longest time from the start of a new node's kube-proxy until its kernel has rules; until then no Service can be reached from it."),
    row("kube_proxy_cpu", "kube-proxy's CPU, cores", "mcores", Group::Proxy, true, false, "Thousandths of a core that kube-proxy and the tools it runs keep busy on a node, mean over nodes and time."),
    row("kube_proxy_memory", "kube-proxy's memory", "bytes", Group::Proxy, true, false, "Largest resident memory of kube-proxy on a node."),
    row("conntrack_deleted", "conntrack entries deleted", "count", Group::Proxy, false, false, "UDP flows that kube-proxy deleted because their endpoint is gone."),
    row("watch_events", "watch events", "count", Group::Control, false, true, "Events that API servers sent to kube-proxies."),
    row("watch_bytes", "watch bytes", "bytes", Group::Control, true, false, "Bytes of those events."),
    row("api_server_cpu", "API servers' CPU, cores", "mcores", Group::Control, true, false, "Thousandths of a core that API servers keep busy with sending them, mean over time."),
    row("services", "Services", "count", Group::Size, false, true, "Service ports of the cluster as measuring begins."),
    row("endpoints", "endpoints", "count", Group::Size, false, true, "Their endpoints, together."),
    row("rules", "rules", "count", Group::Size, false, false, "Rules on one node: nftables with the elements of its sets and maps, ipvs with its virtual and real servers."),
    row("kernel_memory", "kernel memory", "bytes", Group::Size, true, false, "Kernel memory that these rules occupy on one node."),
    row("cpu_utilisation", "CPU utilisation", "ratio", Group::Load, true, false, "Share of the nodes' network CPU that is busy."),
    row("failed_connections", "failed connections", "count", Group::Load, true, false, "Connections that failed, and whose client, if it may retry, failed at the last try too."),
    row("failed_refused", "failed tries: refused", "count", Group::Load, true, false, "Tries of connections that were refused: by a rule, since the Service had no endpoint, or by a process that was no longer there."),
    row("failed_unreachable", "failed tries: unreachable", "count", Group::Load, true, false, "Tries that were told that the host is unreachable: the pod is gone, its node answers."),
    row("failed_timed_out", "failed tries: timed out", "count", Group::Load, true, false, "Tries that nobody answered until the client gave up: the node is gone, or a packet was dropped."),
    row("failed_reset", "failed tries: reset", "count", Group::Load, true, false, "Tries that were established and then reset."),
    row("failed_vanished", "failed tries: with their node", "count", Group::Load, true, false, "Tries of clients whose own node lost power."),
    row("recovered_connections", "recovered connections", "count", Group::Load, false, false, "Calls that failed at first and succeeded with a later connection."),
    row("retried_connections", "retried connections", "count", Group::Load, true, false, "Connections opened anew by a client whose last one failed."),
    row("services_without_endpoints", "Services without endpoints", "count", Group::Load, false, true, "Service ports that no endpoint can be reached for: connections to them fail."),
    row("connections", "connections", "count", Group::Load, false, true, "Connections opened."),
    row("packets", "packets", "count", Group::Load, false, true, "Packets sent."),
];

/// What can be plotted beside metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curve {
    /// Name in records and charts.
    pub name: &'static str,
    /// Name for people, lower case.
    pub label: &'static str,
    /// What it says, in one sentence.
    pub description: &'static str,
}

const fn curve(name: &'static str, label: &'static str, description: &'static str) -> Curve {
    Curve { name, label, description }
}

/// Every known distribution; charts show it over x = "distribution" or "cumulative".
#[rustfmt::skip]
pub const DISTRIBUTIONS: &[Curve] = &[
    curve("first_packet", "first packet", "Cost of the first packet of a connection on the client's node."),
    curve("established_packet", "established packet", "Cost of a packet of a connection that conntrack knows."),
    curve("first_packet_latency", "first packet latency", "Time of a first packet on the client's node, waiting for a core included."),
    curve("connection", "connection", "Time from opening a connection to its last packet."),
    curve("network_programming", "network programming", "Time from what triggered a change to the end of a node's sync that wrote it."),
    curve("rules_live", "rules live", "Time from a change to a node's kernel; its cumulative curve is the share of nodes that have a change, over time."),
    curve("convergence", "convergence", "Time from a change to its being live on every node."),
    curve("sync_duration", "sync", "Time of one sync of kube-proxy."),
];

/// Every known figure over time; charts show it over x = "time".
#[rustfmt::skip]
pub const SERIES: &[Curve] = &[
    curve("failures", "failed tries", "Tries of connections that failed, per second; a client may try again."),
    curve("behind", "how far the last node is behind", "Age of the oldest write that the rules of some live node lack."),
    curve("up_to_date", "nodes up to date", "Share of live nodes whose kernel has every change."),
];

/// The label of a distribution, or its raw name if it is unknown.
pub fn distribution_label(name: &str) -> String {
    let known = DISTRIBUTIONS.iter().find(|known| known.name == name);
    known.map_or_else(|| name.replace('_', " "), |known| known.label.to_owned())
}

/// The label of a figure over time, or its raw name if it is unknown.
pub fn series_label(name: &str) -> String {
    let known = SERIES.iter().find(|known| known.name == name);
    known.map_or_else(|| name.replace('_', " "), |known| known.label.to_owned())
}

/// The known metric of that name.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The label of a metric, or its raw name if it is unknown.
pub fn label(name: &str) -> &str {
    find(name).map_or(name, |known| known.label)
}

/// The group of a metric.
pub fn group(name: &str) -> Group {
    find(name).map_or(Group::Other, |known| known.group)
}

/// Place in tables: known metrics in the order of [`KNOWN`], unknown ones behind them.
pub fn rank(name: &str) -> usize {
    KNOWN.iter().position(|known| known.name == name).unwrap_or(KNOWN.len())
}

/// What people call a swept key, as in "from 118 Services on"; `None` if it has no short noun.
pub fn axis_noun(key: &str) -> Option<&'static str> {
    Some(match key {
        "cluster.services" => "Services",
        "cluster.endpoints" => "endpoints per Service",
        "cluster.nodes" => "nodes",
        "cluster.pods" => "pods",
        _ => return None,
    })
}

/// What people call a swept key, or the key itself.
pub fn axis_label(key: &str) -> &str {
    axis_noun(key).unwrap_or(key)
}

/// The first letter in upper case, as for a heading.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_metric_is_told_once_and_groups_are_together() {
        for (i, known) in KNOWN.iter().enumerate() {
            assert_eq!(rank(known.name), i, "{} is there twice", known.name);
            assert!(known.description.ends_with('.'), "{}", known.name);
        }
        assert!(KNOWN.is_sorted_by_key(|known| known.group));
    }

    #[test]
    fn an_unknown_metric_keeps_its_raw_name() {
        assert_eq!((label("zebras"), group("zebras"), rank("zebras")), ("zebras", Group::Other, KNOWN.len()));
    }
}
