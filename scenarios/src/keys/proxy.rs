//! `[proxy]`: what of KubeProxyConfiguration shapes rules and syncs, under names of this project's style.

use super::{Family, HOUR, Kind, SECOND, Section, optional, with};

/// Longest time that a setting may have.
const LONG: u64 = 365 * 24 * HOUR;
/// A time of connection tracking; zero leaves the kernel's.
const TIMEOUT: Kind = Kind::Span { min_ns: 0, max_ns: LONG };
/// A number of tracked connections.
const ENTRIES: Kind = Kind::Integer { min: 0, max: i32::MAX as u64, why: "kube-proxy's integers end there" };

/// `[proxy]`
pub static PROXY: Section = Section {
    title: "[proxy]",
    keys: &[
        optional(
            "config",
            Kind::Text,
            "KubeProxyConfiguration, YAML or JSON: a path relative to the scenario. Keys that are written here win over it, \
             and cluster.cluster_cidr over its clusterCIDR.",
        ),
        with(
            "modes",
            Kind::Names(Family::Mode),
            "[\"iptables\", \"ipvs\", \"nftables\"]",
            "Proxy modes; every sweep point runs once under each, with the same arrivals. With a config: its mode.",
        ),
        with("kubernetes", Kind::Version, "\"1.36\"", "Version of kube-proxy."),
        with(
            "backend",
            Kind::OneOf(&["legacy", "nft"]),
            "\"legacy\"",
            "What the node's iptables command is: x_tables, or nf_tables behind the same commands.",
        ),
        with("scheduler", Kind::Name(Family::Scheduler), "\"rr\"", "IPVS scheduler."),
        with(
            "masquerade_bit",
            Kind::Integer { min: 0, max: 31, why: "a packet mark has 32 bits" },
            "14",
            "Bit of the packet mark that asks for masquerading.",
        ),
        with("masquerade_all", Kind::Bool, "false", "Masquerade all traffic to cluster IPs."),
        with(
            "bare_rules",
            Kind::Bool,
            "false",
            "Leave out what kube-proxy adds for itself (mangle canary, loopback protection, nfacct), as the rig did \
             that costs were measured on.",
        ),
        with(
            "detect_local",
            Kind::OneOf(&["cluster_cidr", "node_cidr", "bridge_interface", "interface_name_prefix", "none"]),
            "\"cluster_cidr\"",
            "How traffic of pods is told from the rest: by cluster.cluster_cidr, by the node's own pod networks, by the \
             interface it comes in through, or not at all.",
        ),
        optional(
            "bridge_interface",
            Kind::Text,
            "Bridge that all pods of a node are plugged into, for detect_local = \"bridge_interface\".",
        ),
        optional(
            "interface_name_prefix",
            Kind::Text,
            "How names of pods' interfaces begin, for detect_local = \"interface_name_prefix\".",
        ),
        with("localhost_node_ports", Kind::Bool, "true", "Answer NodePorts on loopback (iptables mode)."),
        with(
            "node_port_addresses",
            Kind::NodePortAddresses,
            "[]",
            "Networks of the node's addresses that answer NodePorts, or [\"primary\"]. Empty: all, and in nftables mode \
             primary.",
        ),
        optional(
            "min_sync_period",
            Kind::Span { min_ns: 0, max_ns: HOUR },
            "Least time from the end of a sync to the start of the next. Left out: 1s, and 0s for ipvs, as kube-proxy.",
        ),
        with(
            "sync_period",
            Kind::Span { min_ns: 1, max_ns: 24 * HOUR },
            "\"30s\"",
            "When a failed sync is tried again, and in ipvs mode the longest time between two. It bounds \
             min_sync_period, and is the beat at which iptables mode looks for its canary.",
        ),
        optional("ipvs", Kind::Table(&IPVS), "What else only ipvs mode reads."),
        optional("conntrack", Kind::Table(&CONNTRACK), "Settings of the node's connection tracking."),
    ],
};

/// Keys, with their tables, that a config has a say in: those that are not written come from it, or from its defaults.
pub const IN_CONFIG: &[(&str, &str)] = &[
    ("cluster", "cluster_cidr"),
    ("proxy", "modes"),
    ("proxy", "scheduler"),
    ("proxy", "masquerade_bit"),
    ("proxy", "masquerade_all"),
    ("proxy", "detect_local"),
    ("proxy", "localhost_node_ports"),
    ("proxy", "node_port_addresses"),
    ("proxy", "sync_period"),
    ("proxy", "ipvs"),
    ("proxy", "conntrack"),
];

/// `[proxy.ipvs]`
static IPVS: Section = Section {
    title: "[proxy.ipvs]",
    keys: &[
        with(
            "strict_arp",
            Kind::Bool,
            "false",
            "Answer ARP only for addresses of the interface that is asked.",
        ),
        with(
            "exclude_cidrs",
            Kind::Cidrs,
            "[]",
            "Networks of virtual servers that are not kube-proxy's and stay.",
        ),
        with("tcp_timeout", TIMEOUT, "\"0s\"", "Lifetime of idle TCP connections; 0s leaves the kernel's."),
        with("tcp_fin_timeout", TIMEOUT, "\"0s\"", "Lifetime after a FIN; 0s leaves the kernel's."),
        with("udp_timeout", TIMEOUT, "\"0s\"", "Lifetime of UDP flows; 0s leaves the kernel's."),
        with(
            "tables",
            Kind::OneOf(&["fixed", "resizable"]),
            "\"fixed\"",
            "The kernel's tables of services and connections: of fixed size up to Linux 7.0, following the number of \
             entries from 7.1 on.",
        ),
    ],
};

/// `[proxy.conntrack]`
static CONNTRACK: Section = Section {
    title: "[proxy.conntrack]",
    keys: &[
        with(
            "max_per_core",
            ENTRIES,
            "32768",
            "Tracked connections for each core at most; 0 leaves the kernel's limit. The size of the hash table stays.",
        ),
        with("min", ENTRIES, "131072", "Least limit of tracked connections, however few the cores."),
        with(
            "tcp_established_timeout",
            TIMEOUT,
            "\"24h\"",
            "Lifetime of idle TCP connections; 0s leaves the kernel's.",
        ),
        with(
            "tcp_close_wait_timeout",
            TIMEOUT,
            "\"1h\"",
            "Lifetime in CLOSE_WAIT; 0s leaves the kernel's. Only `rules` shows it: simulated connections are not in \
             that state.",
        ),
        with(
            "tcp_be_liberal",
            Kind::Bool,
            "false",
            "Take packets outside the window for valid; then no rule drops invalid ones. Simulated packets are all \
             inside it.",
        ),
        with(
            "udp_timeout",
            TIMEOUT,
            "\"0s\"",
            "Lifetime of UDP flows without an answer; 0s leaves the kernel's.",
        ),
        with(
            "udp_stream_timeout",
            TIMEOUT,
            "\"0s\"",
            "Lifetime of UDP flows with one; 0s leaves the kernel's.",
        ),
    ],
};

// sysctls take seconds of 32 bits.
const _: () = assert!(LONG / SECOND < u32::MAX as u64);
