//! Every key a scenario may have: its kind, default, limits and meaning, in one table.
//!
//! The reader takes kinds, limits and defaults from here, `windtunnel schema` prints it as a JSON Schema, the
//! resolved scenario is written from it. A new key is a line here and its use in `settings.rs`.

mod control;
mod events;
mod proxy;
mod results;

use crate::tree::Table;
pub use control::{CONTROL, FAULTS, NODES, PODS};
pub use events::EVENT;
pub use proxy::{IN_CONFIG, PROXY};
pub use results::{CHART, GATE, PUBLISHED, VARIANT};

/// Families of names that the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Proxy modes.
    Mode,
    /// IPVS schedulers.
    Scheduler,
    /// Cost profiles.
    Profile,
    /// Figures of a run.
    Metric,
    /// What a chart can show: metrics, distributions, series.
    Figure,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number; `why` is the reason for the upper limit.
    Integer {
        /// Least value.
        min: u64,
        /// Largest value.
        max: u64,
        /// Reason for `max`.
        why: &'static str,
    },
    /// True or false.
    Bool,
    /// A time with its unit.
    Span {
        /// Least value, nanoseconds.
        min_ns: u64,
        /// Largest value, nanoseconds.
        max_ns: u64,
    },
    /// A rate with its unit.
    Rate {
        /// Written `200/s per node` instead of `2/s`.
        per_node: bool,
        /// Whether none at all can be written, as `0/s`.
        none: bool,
        /// Largest value, per second.
        max: f64,
    },
    /// A plain number, whole or not.
    Number {
        /// Least value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// A probability or share of one, such as `1%` or `0.01`.
    Ratio,
    /// A number of pods, or a share of them such as `25%`.
    PodShare,
    /// A list of nodes by number or name, or the word `all`.
    Nodes,
    /// A number, with its unit in quotes if it has one.
    Quantity,
    /// How far off a figure may be: `15%`, `factor 2` or `exact`.
    Tolerance,
    /// A table of dotted keys with a value each.
    Set,
    /// A network such as `10.96.0.0/12`.
    Cidr,
    /// A list of networks.
    Cidrs,
    /// A list of networks, or the word `primary` alone in one.
    NodePortAddresses,
    /// An IP address.
    Address,
    /// A Kubernetes version such as `1.36`.
    Version,
    /// One of fixed words.
    OneOf(&'static [&'static str]),
    /// One name of a family.
    Name(Family),
    /// A list of names of a family.
    Names(Family),
    /// A number of endpoints, or `{ name = [endpoints, share], ... }`.
    Endpoints,
    /// A list of `ip:port`.
    Targets,
    /// A table.
    Table(&'static Section),
    /// A table that says what is done: it is there only if it is written.
    Action(&'static Section),
    /// A list of tables.
    Tables(&'static Section),
    /// Dotted keys and the lists of values they take in turn.
    Sweep,
}

impl Kind {
    /// What a message calls a value of this kind, with an example.
    pub fn expected(&self) -> String {
        match self {
            Kind::Text => "text in quotes".into(),
            Kind::Integer { min, max, .. } => format!("a whole number from {min} to {}", grouped(*max)),
            Kind::Bool => "true or false".into(),
            Kind::Span { .. } => {
                "a time in quotes with its unit, such as \"30s\" (ns, us, ms, s, m, h)".into()
            }
            Kind::Rate { per_node: true, .. } => "a rate in quotes, such as \"200/s per node\"".into(),
            Kind::Rate { per_node: false, .. } => "a rate in quotes, such as \"2/s\"".into(),
            Kind::Number { min, max } => format!("a number from {min} to {max}"),
            Kind::Ratio => "a share from 0 to 1, such as \"1%\" or 0.01".into(),
            Kind::PodShare => "a number of pods, or a share in quotes such as \"25%\"".into(),
            Kind::Nodes => "a list of nodes, such as [3, \"node-4\"], or \"all\"".into(),
            Kind::Quantity => "a number, with its unit in quotes if it has one, such as \"27s\"".into(),
            Kind::Tolerance => "\"exact\", a share such as \"15%\", or \"factor 2\"".into(),
            Kind::Set => "a table of keys and values, such as { \"proxy.kubernetes\" = \"1.25\" }".into(),
            Kind::Cidr => "a network in quotes, such as \"10.96.0.0/12\"".into(),
            Kind::Cidrs => "a list of networks, such as [\"10.96.0.0/12\"]".into(),
            Kind::NodePortAddresses => {
                "a list of networks, such as [\"192.168.0.0/16\"], or [\"primary\"]".into()
            }
            Kind::Address => "an IP address in quotes, such as \"10.96.0.1\"".into(),
            Kind::Version => "a version in quotes, such as \"1.36\"".into(),
            Kind::OneOf(words) => format!("one of {}", words.join(", ")),
            Kind::Name(_) => "a name in quotes".into(),
            Kind::Names(_) => "a list of names, such as [\"iptables\", \"ipvs\"]".into(),
            Kind::Endpoints => {
                "a number of endpoints, shares such as { small = [5, 0.75], big = [250, 0.25] }, or \"clusterloader2\"".into()
            }
            Kind::Targets => "a list of addresses, such as [\"192.168.1.61:6443\"]".into(),
            Kind::Table(_) | Kind::Action(_) => "a table".into(),
            Kind::Tables(_) => "a list of tables, written [[...]]".into(),
            Kind::Sweep => "a table of keys and lists, such as \"cluster.services\" = [1000, 4000]".into(),
        }
    }

    /// Whether a sweep may vary it: sweeps put numbers on an axis.
    pub fn can_sweep(&self) -> bool {
        matches!(
            self,
            Kind::Integer { .. }
                | Kind::Span { .. }
                | Kind::Rate { .. }
                | Kind::Number { .. }
                | Kind::Ratio
                | Kind::PodShare
                | Kind::Endpoints
        )
    }
}

/// A number with commas between groups of three digits.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its default as TOML; none means that the key is either required or absent for a reason given in `doc`.
    pub default: Option<&'static str>,
    /// Whether it must be there.
    pub required: bool,
    /// What it means, one or two sentences.
    pub doc: &'static str,
}

/// A table of keys.
#[derive(Debug)]
pub struct Section {
    /// What a message calls it.
    pub title: &'static str,
    /// Its keys in the order in which a scenario is written.
    pub keys: &'static [Key],
}

impl Section {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

/// A key with a default.
const fn with(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default: Some(default), required: false, doc }
}
/// A key without a default that may be left out.
const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, required: false, doc }
}
/// A key that must be there.
const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, required: true, doc }
}

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * SECOND;

/// Most Services of a cluster.
pub const SERVICES_MAX: u64 = 100_000;
/// Most nodes of a cluster.
pub const NODES_MAX: u64 = 5_000;
/// Most endpoints of a cluster.
pub const ENDPOINTS_MAX: u64 = 5_000_000;
/// Most connections that one sweep point may open.
pub const CONNECTIONS_MAX: f64 = 1e9;
/// Most (sweep point, mode) pairs of a plan.
pub const POINTS_MAX: u64 = 10_000;

/// A scenario.
pub static SCENARIO: Section = Section {
    title: "the top level",
    keys: &[
        with("title", Kind::Text, "\"\"", "Heading of the report; empty means the file's name."),
        with(
            "seed",
            Kind::Integer { min: 0, max: i64::MAX as u64, why: "TOML integers end there" },
            "1",
            "Root of all random streams. The same seed gives the same bytes.",
        ),
        with(
            "duration",
            Kind::Span { min_ns: MS, max_ns: 24 * HOUR },
            "\"10s\"",
            "Simulated time that is measured.",
        ),
        with(
            "warmup",
            Kind::Span { min_ns: 0, max_ns: 24 * HOUR },
            "\"0s\"",
            "Simulated time before measuring begins.",
        ),
        optional("cluster", Kind::Table(&CLUSTER), "Nodes, Services and endpoints."),
        optional(
            "services",
            Kind::Tables(&SERVICE),
            "Services written out in full, instead of cluster.services or cluster.import.",
        ),
        optional("proxy", Kind::Table(&PROXY), "kube-proxy's configuration."),
        optional("kernel", Kind::Table(&KERNEL), "Kernel and machine of every node."),
        optional(
            "traffic",
            Kind::Tables(&TRAFFIC),
            "Clients; without any, rules are built and syncs run but nobody calls.",
        ),
        optional("churn", Kind::Table(&CHURN), "Endpoint changes while traffic runs."),
        optional(
            "control",
            Kind::Table(&CONTROL),
            "API server, etcd and the controllers that write endpoints.",
        ),
        optional("pods", Kind::Table(&PODS), "Lives of pods."),
        optional("nodes", Kind::Table(&NODES), "Heartbeats of nodes, and what else runs on them."),
        optional("faults", Kind::Table(&FAULTS), "Misfortunes that strike at random."),
        optional("events", Kind::Tables(&EVENT), "What happens when, each at a time of its own."),
        optional(
            "sweep",
            Kind::Sweep,
            "Keys that vary: the product of all lists, times the modes, is simulated.",
        ),
        optional(
            "variants",
            Kind::Tables(&VARIANT),
            "Named sets of values that run beside each other, such as two versions of kube-proxy.",
        ),
        optional(
            "gates",
            Kind::Tables(&GATE),
            "Conditions that must hold; a run in which one fails exits with 3.",
        ),
        optional("charts", Kind::Tables(&CHART), "Charts of the report."),
        optional(
            "published",
            Kind::Tables(&PUBLISHED),
            "Figures that others have published: the report shows the simulated ones beside them.",
        ),
    ],
};

/// `[cluster]`
pub static CLUSTER: Section = Section {
    title: "[cluster]",
    keys: &[
        with(
            "nodes",
            Kind::Integer {
                min: 1,
                max: NODES_MAX,
                why: "Kubernetes supports clusters of up to 5,000 nodes",
            },
            "3",
            "Number of nodes. With an import that has Nodes, those count instead.",
        ),
        optional(
            "services",
            Kind::Integer {
                min: 1,
                max: SERVICES_MAX,
                why: "ten times what Kubernetes supports; rules of more would not fit into a node's memory",
            },
            "Number of generated Services, each with one TCP port. Left out: 100, or those imported or written out.",
        ),
        with(
            "endpoints",
            Kind::Endpoints,
            "3",
            "Endpoints of each generated Service: a number, named shares { small = [5, 0.75], big = [250, 0.25] }, or \
             \"clusterloader2\": Kubernetes' own load test, whose number of Services follows from that of nodes.",
        ),
        with("service_cidr", Kind::Cidr, "\"10.96.0.0/12\"", "Network that cluster IPs come from."),
        with("cluster_cidr", Kind::Cidr, "\"10.128.0.0/9\"", "Network that pod addresses come from."),
        optional(
            "import",
            Kind::Text,
            "What `kubectl get services,endpointslices,nodes,pods -A -o json` prints: a path relative to the scenario.",
        ),
    ],
};

/// `[[services]]`
pub static SERVICE: Section = Section {
    title: "[[services]]",
    keys: &[
        required("name", Kind::Text, "Name of the Service."),
        with("namespace", Kind::Text, "\"default\"", "Its namespace."),
        required("cluster_ip", Kind::Address, "Address that every pod can use."),
        required(
            "port",
            Kind::Integer { min: 1, max: 65_535, why: "ports have 16 bits" },
            "Port on the cluster IP.",
        ),
        with("port_name", Kind::Text, "\"\"", "Name of the port."),
        with("protocol", Kind::OneOf(&["tcp", "udp", "sctp"]), "\"tcp\"", "Transport protocol."),
        with("endpoints", Kind::Targets, "[]", "Where it leads: a list of \"ip:port\"."),
    ],
};

/// `[kernel]`
pub static KERNEL: Section = Section {
    title: "[kernel]",
    keys: &[
        with(
            "profile",
            Kind::Name(Family::Profile),
            "\"linux-6.18\"",
            "Cost profile: what a unit of work costs.",
        ),
        with(
            "cache",
            Kind::OneOf(&["hot", "shared", "cold"]),
            "\"hot\"",
            "What other work does to the rules between packets: nothing, pushes them to the shared cache, to memory.",
        ),
        with(
            "cores",
            Kind::Integer { min: 1, max: 1_024, why: "larger machines are not modelled" },
            "4",
            "Cores that packets are spread over by flow hash.",
        ),
    ],
};

/// `[[traffic]]`
pub static TRAFFIC: Section = Section {
    title: "[[traffic]]",
    keys: &[
        with("name", Kind::Text, "\"clients\"", "Name in reports."),
        required(
            "rate",
            Kind::Rate { per_node: true, none: false, max: 1e7 },
            "New connections from each node's pods, Poisson.",
        ),
        optional("connection", Kind::Table(&CONNECTION), "What happens on one connection."),
        with(
            "to",
            Kind::Text,
            "\"uniform\"",
            "Which Services are called: \"uniform\", or one as \"namespace/name\".",
        ),
        with(
            "timeout",
            Kind::Span { min_ns: MS, max_ns: HOUR },
            "\"10s\"",
            "Time after which a client gives up a connection that nobody answers.",
        ),
        with(
            "retries",
            Kind::Integer { min: 0, max: 100, why: "whoever fails that often fails for good" },
            "0",
            "Times that a client whose connection failed tries again with a new one.",
        ),
    ],
};

/// `connection = { ... }`
pub static CONNECTION: Section = Section {
    title: "connection",
    keys: &[
        with(
            "requests",
            Kind::Integer { min: 1, max: 1_000_000, why: "longer connections only repeat themselves" },
            "1",
            "Requests on one connection.",
        ),
        with(
            "think",
            Kind::Span { min_ns: 0, max_ns: 24 * HOUR },
            "\"0s\"",
            "Pause between an answer and the next request.",
        ),
        with(
            "service_time",
            Kind::Span { min_ns: 0, max_ns: HOUR },
            "\"1ms\"",
            "Time a pod takes to answer.",
        ),
    ],
};

/// `[churn]`
pub static CHURN: Section = Section {
    title: "[churn]",
    keys: &[with(
        "rate",
        Kind::Rate { per_node: false, none: true, max: 1e5 },
        "\"0/s\"",
        "Endpoint changes in the whole cluster, Poisson; each replaces one endpoint of one Service.",
    )],
};

/// The key at a dotted path such as `cluster.services`; list indices are skipped.
///
/// # Errors
/// The section in which the path stops matching, and the part that it does not have.
pub fn find(path: &str) -> Result<&'static Key, (&'static Section, String)> {
    let mut section = &SCENARIO;
    let mut parts = path.split('.').filter(|p| p.parse::<usize>().is_err()).peekable();
    loop {
        let part = parts.next().unwrap_or_default();
        let key = section.key(part).ok_or_else(|| (section, part.to_owned()))?;
        if parts.peek().is_none() {
            return Ok(key);
        }
        match key.kind {
            Kind::Table(inner) | Kind::Tables(inner) | Kind::Action(inner) => section = inner,
            _ => return Err((section, parts.next().unwrap_or_default().to_owned())),
        }
    }
}

/// False if `path` leads into a list of tables that `root` does not have: setting it would have to invent an element.
pub fn list_is_there(root: &Table, path: &str) -> bool {
    let first = path.split('.').next().unwrap_or_default();
    let is_list = SCENARIO.key(first).is_some_and(|k| matches!(k.kind, Kind::Tables(_)));
    !is_list || root.get(first).is_some()
}
