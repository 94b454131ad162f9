//! `[[events]]`: what happens to the cluster, and when. Each has a time and exactly one action, which is the name of a
//! table. `sim_models::config::Action` says what each does.

use super::{Family, HOUR, Key, Kind, MS, Section, optional, required, with};

/// A number of Services.
const COUNT: Kind = Kind::Integer { min: 1, max: super::SERVICES_MAX, why: "no cluster has more Services" };
/// A number of pods.
const PODS: Kind = Kind::Integer { min: 1, max: super::ENDPOINTS_MAX, why: "no cluster has more endpoints" };
/// How long something lasts.
const LASTS: Kind = Kind::Span { min_ns: MS, max_ns: 24 * HOUR };
/// Nodes that something happens to.
const AFFECTED: Key = required("nodes", Kind::Nodes, "Nodes by number, from 0, or by name; or \"all\".");
/// When failed nodes come back.
const RECOVER: Key =
    optional("recover_after", LASTS, "Time after which they come back, empty. Left out: they do not.");

/// `[[events]]`
pub static EVENT: Section = Section {
    title: "[[events]]",
    keys: &[
        required("at", Kind::Span { min_ns: 0, max_ns: 24 * HOUR }, "When, from the end of the warm-up."),
        optional(
            "rolling_update",
            Kind::Action(&ROLLING_UPDATE),
            "Every pod of some Services' Deployments is replaced, a few at a time. All Services, unless one of service, \
             services, pods says which.",
        ),
        optional("scale", Kind::Action(&SCALE), "Services get another number of pods."),
        optional(
            "fail_nodes",
            Kind::Action(&FAIL_NODES),
            "Nodes lose power: nothing on them answers any more.",
        ),
        optional("fail_zone", Kind::Action(&FAIL_ZONE), "All nodes of a zone fail."),
        optional(
            "api_outage",
            Kind::Action(&API_OUTAGE),
            "The API servers answer nobody; nodes keep their last rules.",
        ),
        optional("add_nodes", Kind::Action(&ADD_NODES), "New nodes join."),
        optional(
            "add_services",
            Kind::Action(&ADD_SERVICES),
            "Services are created, with pods of their own.",
        ),
        optional("remove_services", Kind::Action(&REMOVE_SERVICES), "The last Services are deleted."),
        optional("restart_proxies", Kind::Action(&RESTART_PROXIES), "kube-proxy is started again."),
        optional(
            "switch_mode",
            Kind::Action(&SWITCH_MODE),
            "kube-proxy goes over to another mode: edit the ConfigMap, flush the old rules, restart, wait.",
        ),
        optional("drop_watches", Kind::Action(&DROP_WATCHES), "Nodes' watches break for a while."),
        optional(
            "fail_restores",
            Kind::Action(&FAIL_RESTORES),
            "Every restore or transaction on these nodes fails for a while.",
        ),
        optional("flush_rules", Kind::Action(&FLUSH_RULES), "Somebody flushes all rules of these nodes."),
        optional("relabel", Kind::Action(&RELABEL), "Nodes get another zone label: a full sync."),
    ],
};

static ROLLING_UPDATE: Section = Section {
    title: "rolling_update",
    keys: &[
        optional("service", Kind::Text, "One Service, as \"namespace/name\"."),
        optional("services", COUNT, "The first so many Services."),
        optional("pods", PODS, "The first Services, until they have so many pods."),
        with("max_surge", Kind::PodShare, "\"25%\"", "Pods above the wanted number."),
        with("max_unavailable", Kind::PodShare, "\"25%\"", "Pods below it."),
    ],
};

static SCALE: Section = Section {
    title: "scale",
    keys: &[
        optional("service", Kind::Text, "One Service, as \"namespace/name\"."),
        optional("services", COUNT, "The first so many Services."),
        optional("pods", PODS, "The first Services, until they have so many pods."),
        required(
            "replicas",
            Kind::Integer { min: 0, max: 50_000, why: "larger Services are split by hand in real clusters" },
            "Pods of each.",
        ),
    ],
};

static FAIL_NODES: Section = Section { title: "fail_nodes", keys: &[AFFECTED, RECOVER] };

static FAIL_ZONE: Section = Section {
    title: "fail_zone",
    keys: &[
        required("zone", Kind::Integer { min: 0, max: 99, why: "nodes.zones goes to 100" }, "Which, from 0."),
        RECOVER,
    ],
};

static API_OUTAGE: Section =
    Section { title: "api_outage", keys: &[required("lasts", LASTS, "For how long.")] };

static ADD_NODES: Section = Section {
    title: "add_nodes",
    keys: &[with(
        "count",
        Kind::Integer {
            min: 1,
            max: super::NODES_MAX,
            why: "Kubernetes supports clusters of up to 5,000 nodes",
        },
        "1",
        "How many.",
    )],
};

static ADD_SERVICES: Section = Section {
    title: "add_services",
    keys: &[
        with("count", COUNT, "1", "How many."),
        with(
            "endpoints",
            Kind::Integer { min: 0, max: 50_000, why: "larger Services are split by hand in real clusters" },
            "1",
            "Pods of each.",
        ),
    ],
};

static REMOVE_SERVICES: Section =
    Section { title: "remove_services", keys: &[with("count", COUNT, "1", "How many.")] };

static RESTART_PROXIES: Section = Section {
    title: "restart_proxies",
    keys: &[with("nodes", Kind::Nodes, "\"all\"", "On which nodes, one after the other.")],
};

static SWITCH_MODE: Section = Section {
    title: "switch_mode",
    keys: &[
        required("to", Kind::Name(Family::Mode), "The new mode."),
        with(
            "restart",
            Kind::Bool,
            "true",
            "Restart kube-proxy after the edit; without it nobody reads the edit.",
        ),
        with("flush", Kind::Bool, "true", "Flush the old mode's rules before the restart."),
        optional(
            "wait",
            Kind::Bool,
            "Keep clients away from each node until its first sync has ended. Left out: true, if kube-proxy is restarted.",
        ),
        with(
            "parallel",
            Kind::Integer { min: 1, max: super::NODES_MAX, why: "there are no more nodes" },
            "1",
            "Nodes that are restarted at once.",
        ),
    ],
};

static DROP_WATCHES: Section =
    Section { title: "drop_watches", keys: &[AFFECTED, required("lasts", LASTS, "For how long.")] };

static FAIL_RESTORES: Section =
    Section { title: "fail_restores", keys: &[AFFECTED, required("lasts", LASTS, "For how long.")] };

static FLUSH_RULES: Section = Section { title: "flush_rules", keys: &[AFFECTED] };

static RELABEL: Section = Section { title: "relabel", keys: &[AFFECTED] };
