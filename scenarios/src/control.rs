//! `[control]`, `[pods]`, `[nodes]` and `[faults]` of one sweep point. Most keys go straight into their configuration;
//! those that others can contradict keep their places.

use crate::reader::{Context, Reader, Spot};
use sim_core::units::SimSpan;
use sim_models::config::{ControlConfig, Encoding, EndpointsObjects, FaultConfig, NodeConfig, PodConfig};

/// First minor version of Kubernetes whose kube-proxy watches EndpointSlices (`EndpointSliceProxying` is on).
const SLICES_SINCE: u32 = 19;
/// First minor version whose node controller waits for 50 s instead of 40 s.
const LONGER_GRACE_SINCE: u32 = 32;
const GRACE_BEFORE: SimSpan = SimSpan::from_secs(40);

/// Settings of the cluster in time.
pub struct Time {
    control: ControlConfig,
    endpoint_objects: Option<Spot<String>>,
    endpoints_per_slice: Spot<u64>,
    pods: PodConfig,
    pub grace: Spot<SimSpan>,
    pub pre_stop: Spot<SimSpan>,
    /// Absent if not written: kubelet's own, which then binds only what events add.
    pub per_node: Option<Spot<u64>>,
    nodes: NodeConfig,
    pub heartbeat: Spot<SimSpan>,
    /// Absent if not written: what the version has.
    pub monitor_grace: Option<Spot<SimSpan>>,
    pub zones: Spot<u64>,
    /// Misfortunes at random.
    pub faults: FaultConfig,
}

fn count(spot: &Spot<u64>) -> u32 {
    u32::try_from(spot.value).expect("limits are below 2^32")
}

impl Time {
    /// Reads the four tables.
    pub fn read(cx: &mut Context<'_>, top: &Reader<'_>) -> Time {
        let [control, pods, nodes, faults] =
            ["control", "pods", "nodes", "faults"].map(|name| top.table(cx, name));
        let span = |cx: &mut Context<'_>, r: &Reader<'_>, name: &str| r.span(cx, name).value;
        let whole = |cx: &mut Context<'_>, r: &Reader<'_>, name: &str| count(&r.integer(cx, name));
        let (grace, pre_stop) = (pods.span(cx, "grace"), pods.span(cx, "pre_stop"));
        let per_node = pods.entry("per_node").map(|_| pods.integer(cx, "per_node"));
        let heartbeat = nodes.span(cx, "heartbeat");
        let zones = nodes.integer(cx, "zones");
        Time {
            control: ControlConfig {
                encoding: match control.text(cx, "encoding").value.as_str() {
                    "json" => Encoding::Json,
                    _ => Encoding::Protobuf,
                },
                etcd_write: span(cx, &control, "etcd_write"),
                api_servers: whole(cx, &control, "api_servers"),
                event_cpu: span(cx, &control, "event_cpu"),
                kilobyte_cpu: span(cx, &control, "kilobyte_cpu"),
                watch_fixed: span(cx, &control, "watch_fixed"),
                watch_random: span(cx, &control, "watch_random"),
                batch_period: span(cx, &control, "batch_period"),
                writes_per_second: control.rate(cx, "write_rate").value,
                writes_burst: whole(cx, &control, "write_burst"),
                workers: whole(cx, &control, "workers"),
                object_bytes: control.integer(cx, "object_bytes").value,
                endpoint_bytes: control.integer(cx, "endpoint_bytes").value,
                protobuf_ratio: control.number(cx, "protobuf_ratio").value,
                reconnect_max: span(cx, &control, "reconnect_max"),
                ..ControlConfig::default()
            },
            endpoint_objects: control.entry("endpoint_objects").map(|_| control.text(cx, "endpoint_objects")),
            endpoints_per_slice: control.integer(cx, "endpoints_per_slice"),
            pods: PodConfig {
                scheduling: span(cx, &pods, "scheduling"),
                startup: span(cx, &pods, "startup"),
                probe_delay: span(cx, &pods, "probe_delay"),
                probe_period: span(cx, &pods, "probe_period"),
                grace: grace.value,
                pre_stop: pre_stop.value,
                shutdown: span(cx, &pods, "shutdown"),
                per_node: per_node.as_ref().map_or(PodConfig::default().per_node, count),
            },
            grace,
            pre_stop,
            per_node,
            nodes: NodeConfig {
                heartbeat: heartbeat.value,
                monitor_period: span(cx, &nodes, "monitor_period"),
                eviction: span(cx, &nodes, "eviction"),
                zones: count(&zones),
                boot: span(cx, &nodes, "boot"),
                lock_users_per_second: nodes.rate(cx, "lock_users").value,
                lock_held: span(cx, &nodes, "lock_held"),
                ..NodeConfig::default()
            },
            heartbeat,
            monitor_grace: nodes.entry("monitor_grace").map(|_| nodes.span(cx, "monitor_grace")),
            zones,
            faults: FaultConfig {
                watch_drops_per_hour: faults.rate(cx, "watch_drops").value * 3_600.0,
                proxy_restarts_per_hour: faults.rate(cx, "proxy_restarts").value * 3_600.0,
                failed_restores: faults.ratio(cx, "failed_restores").value,
            },
        }
    }

    /// The control plane of a Kubernetes minor version.
    pub fn control(&self, minor: u32) -> ControlConfig {
        let objects = self.endpoint_objects.as_ref().map(|spot| spot.value.as_str());
        let endpoints = match objects {
            Some("endpoints") => EndpointsObjects::Endpoints,
            None if minor < SLICES_SINCE => EndpointsObjects::Endpoints,
            _ => EndpointsObjects::Slices { max: count(&self.endpoints_per_slice) },
        };
        ControlConfig { endpoints, ..self.control.clone() }
    }

    /// Lives of pods.
    pub fn pods(&self) -> PodConfig {
        self.pods.clone()
    }

    /// Nodes of a Kubernetes minor version.
    pub fn nodes(&self, minor: u32) -> NodeConfig {
        NodeConfig { monitor_grace: self.monitor_grace(minor), ..self.nodes.clone() }
    }

    /// Silence after which a node is Unknown.
    pub fn monitor_grace(&self, minor: u32) -> SimSpan {
        match &self.monitor_grace {
            Some(spot) => spot.value,
            None if minor < LONGER_GRACE_SINCE => GRACE_BEFORE,
            None => NodeConfig::default().monitor_grace,
        }
    }
}
