//! The cluster in time: `[control]`, `[pods]`, `[nodes]` and `[faults]`, with Kubernetes' defaults
//! (`sim_models::config`, which says where each comes from).

use super::{HOUR, Kind, MS, SECOND, Section, optional, with};

/// A time that may be nothing.
const WAIT: Kind = Kind::Span { min_ns: 0, max_ns: HOUR };
/// A period.
const PERIOD: Kind = Kind::Span { min_ns: MS, max_ns: HOUR };
/// A size in bytes.
const BYTES: Kind = Kind::Integer { min: 0, max: 1_572_864, why: "etcd takes objects of up to 1.5 MiB" };
/// A misfortune of each node.
const OFTEN: Kind = Kind::Rate { per_node: true, none: true, max: 1e3 };

/// `[control]`
pub static CONTROL: Section = Section {
    title: "[control]",
    keys: &[
        with("encoding", Kind::OneOf(&["protobuf", "json"]), "\"protobuf\"", "How watch events are written."),
        with(
            "etcd_write",
            WAIT,
            "\"3ms\"",
            "Mean time of one write: API server, etcd's raft round and disk.",
        ),
        with(
            "api_servers",
            Kind::Integer {
                min: 1,
                max: 99,
                why: "etcd has at most seven members, and API servers hardly more",
            },
            "1",
            "API servers that watchers are spread over.",
        ),
        with(
            "event_cpu",
            WAIT,
            "\"8us\"",
            "Processor time of an API server to send one event to one watcher.",
        ),
        with("kilobyte_cpu", WAIT, "\"1us\"", "Processor time for each 1,000 bytes sent to one watcher."),
        with(
            "watch_fixed",
            WAIT,
            "\"2ms\"",
            "From the API server to kube-proxy's change tracker: the part that all nodes share.",
        ),
        with(
            "watch_random",
            WAIT,
            "\"2ms\"",
            "Mean of the exponential part, which differs from node to node.",
        ),
        optional(
            "endpoint_objects",
            Kind::OneOf(&["slices", "endpoints"]),
            "What kube-proxy watches: EndpointSlices, or one Endpoints object a Service. Left out: slices, and \
             endpoints up to Kubernetes 1.18.",
        ),
        with(
            "endpoints_per_slice",
            Kind::Integer { min: 1, max: 1_000, why: "the API server takes no more" },
            "100",
            "Endpoints of one slice at most (--max-endpoints-per-slice).",
        ),
        with(
            "batch_period",
            WAIT,
            "\"0s\"",
            "How long a Service's changes wait for others of it (--endpointslice-updates-batch-period).",
        ),
        with(
            "write_rate",
            Kind::Rate { per_node: false, none: false, max: 1e5 },
            "\"20/s\"",
            "Writes of the EndpointSlice controller (--kube-api-qps).",
        ),
        with(
            "write_burst",
            Kind::Integer { min: 1, max: 100_000, why: "that is as good as no limit" },
            "30",
            "Writes that it may do at once before that rate binds (--kube-api-burst).",
        ),
        with(
            "workers",
            Kind::Integer { min: 1, max: 1_000, why: "the controller has tens" },
            "5",
            "Services that it works on at once (--concurrent-service-endpoint-syncs).",
        ),
        with(
            "object_bytes",
            BYTES,
            "900",
            "Size of an EndpointSlice or Endpoints object without endpoints, as JSON.",
        ),
        with("endpoint_bytes", BYTES, "100", "Bytes that one endpoint adds, as JSON."),
        with(
            "protobuf_ratio",
            Kind::Number { min: 1.0, max: 100.0 },
            "3",
            "How many times smaller protobuf is than JSON.",
        ),
        with(
            "reconnect_max",
            Kind::Span { min_ns: 800 * MS, max_ns: HOUR },
            "\"30s\"",
            "Longest wait before a broken watch is opened again; the first wait is 800 ms.",
        ),
    ],
};

/// `[pods]`
pub static PODS: Section = Section {
    title: "[pods]",
    keys: &[
        with("scheduling", WAIT, "\"50ms\"", "From a pod's creation to its binding to a node, mean."),
        with("startup", WAIT, "\"2s\"", "From the binding to the running container, mean."),
        with("probe_delay", WAIT, "\"0s\"", "readinessProbe.initialDelaySeconds."),
        with("probe_period", PERIOD, "\"10s\"", "readinessProbe.periodSeconds."),
        with("grace", WAIT, "\"30s\"", "terminationGracePeriodSeconds; the preStop hook is part of it."),
        with("pre_stop", WAIT, "\"0s\"", "Time that the preStop hook takes; the container goes on serving."),
        with("shutdown", WAIT, "\"1s\"", "From SIGTERM to the end of the process, mean."),
        optional(
            "per_node",
            Kind::Integer { min: 1, max: 10_000, why: "kubelets run hundreds" },
            "Pods that a node takes (maxPods). Left out: 110, and that bounds only what events add, so that rules can be \
             asked about whose pods no nodes could hold.",
        ),
    ],
};

/// `[nodes]`
pub static NODES: Section = Section {
    title: "[nodes]",
    keys: &[
        with("heartbeat", PERIOD, "\"10s\"", "Renewal of a node's Lease."),
        with("monitor_period", PERIOD, "\"5s\"", "Rounds of the node controller (--node-monitor-period)."),
        optional(
            "monitor_grace",
            PERIOD,
            "Silence after which a node is Unknown and its pods are not ready (--node-monitor-grace-period). Left out: \
             50s, and 40s up to Kubernetes 1.31.",
        ),
        with("eviction", WAIT, "\"5m\"", "Time after which its pods are evicted (tolerationSeconds)."),
        with(
            "zones",
            Kind::Integer { min: 1, max: 100, why: "regions have a handful" },
            "1",
            "Zones that nodes are spread over, in turn.",
        ),
        with("boot", WAIT, "\"5s\"", "From a node's start to that of its kube-proxy."),
        with(
            "lock_users",
            Kind::Rate { per_node: true, none: true, max: 1e4 },
            "\"0/s per node\"",
            "How often a CNI plugin or kubelet takes the xtables lock.",
        ),
        with(
            "lock_held",
            Kind::Span { min_ns: 0, max_ns: 60 * SECOND },
            "\"5ms\"",
            "For how long each holds it, mean.",
        ),
    ],
};

/// `[faults]`
pub static FAULTS: Section = Section {
    title: "[faults]",
    keys: &[
        with("watch_drops", OFTEN, "\"0/h per node\"", "Watches that break."),
        with("proxy_restarts", OFTEN, "\"0/h per node\"", "Restarts of kube-proxy."),
        with("failed_restores", Kind::Ratio, "0", "Share of restores and transactions that fail."),
    ],
};
