//! Settings of the control plane, of pods' lives and of nodes' heartbeats, with Kubernetes 1.36's defaults.
//!
//! Sources beside each value. What is assumed and not Kubernetes' own default says so.

use sim_core::units::SimSpan;

/// API server, etcd and the controllers that write EndpointSlices.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlConfig {
    /// How watch events are written.
    pub encoding: Encoding,
    /// Time of one write: API server, etcd's raft round and disk (mean; exponential above a third of it).
    pub etcd_write: SimSpan,
    /// API servers that watchers are spread over.
    pub api_servers: u32,
    /// Cores of each that send events (assumed).
    pub api_server_cores: u32,
    /// Processor time of an API server to send one event to one watcher, beside its bytes.
    pub event_cpu: SimSpan,
    /// Processor time per 1,000 bytes sent to one watcher.
    pub kilobyte_cpu: SimSpan,
    /// From the API server's send to kube-proxy's change tracker: network, decoding, informer; what all nodes share.
    pub watch_fixed: SimSpan,
    /// Mean of the exponential part of that, which differs from node to node.
    pub watch_random: SimSpan,
    /// EndpointSlices, or the one Endpoints object that older versions watch.
    pub endpoints: EndpointsObjects,
    /// `--endpointslice-updates-batch-period`: a Service's changes wait this long for others of it.
    pub batch_period: SimSpan,
    /// Writes a second of the EndpointSlice controller.
    pub writes_per_second: f64,
    /// Writes it may do at once before that rate binds.
    pub writes_burst: u32,
    /// `--concurrent-endpoint-syncs`, workers of the controller.
    pub workers: u32,
    /// Size of an EndpointSlice or Endpoints object without endpoints, bytes as JSON.
    pub object_bytes: u64,
    /// Bytes that one endpoint adds, as JSON.
    pub endpoint_bytes: u64,
    /// Division of the JSON size by protobuf.
    pub protobuf_ratio: f64,
    /// Longest wait of a watch that broke before it is opened again; the first wait is 800 ms
    /// (`client-go tools/cache/reflector.go`: backoff 800 ms to 30 s, doubling, jittered).
    pub reconnect_max: SimSpan,
}

/// Encoding of watch events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf, kube-proxy's default content type.
    Protobuf,
    /// JSON.
    Json,
}

/// What kube-proxy watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointsObjects {
    /// EndpointSlices of at most so many endpoints (`--max-endpoints-per-slice`).
    Slices {
        /// Endpoints of one slice, 1 to 1000.
        max: u32,
    },
    /// One Endpoints object a Service, before 1.19.
    Endpoints,
}

/// Lives of pods: what a kubelet and a container take.
#[derive(Clone, Debug, PartialEq)]
pub struct PodConfig {
    /// From the pod's creation to its binding to a node (assumed mean, exponential).
    pub scheduling: SimSpan,
    /// From the binding to the running container: image, sandbox, start (assumed mean, exponential above a half).
    pub startup: SimSpan,
    /// `readinessProbe.initialDelaySeconds`.
    pub probe_delay: SimSpan,
    /// `readinessProbe.periodSeconds`; the first probe comes at a random part of it.
    pub probe_period: SimSpan,
    /// `terminationGracePeriodSeconds`.
    pub grace: SimSpan,
    /// Time that the preStop hook takes; the container goes on serving.
    pub pre_stop: SimSpan,
    /// From SIGTERM to the end of the process (mean, exponential); SIGKILL comes at the end of the grace period.
    pub shutdown: SimSpan,
    /// Pods that a node takes.
    pub per_node: u32,
}

/// Heartbeats of nodes and what follows when they stop.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// Renewal of the node's Lease (`nodeLeaseDurationSeconds` / 4).
    pub heartbeat: SimSpan,
    /// `--node-monitor-period`: the node controller's rounds.
    pub monitor_period: SimSpan,
    /// `--node-monitor-grace-period`: silence after which a node is Unknown and its pods are not ready.
    pub monitor_grace: SimSpan,
    /// `tolerationSeconds` of not-ready and unreachable, after which pods are evicted.
    pub eviction: SimSpan,
    /// Zones that nodes are spread over, round robin.
    pub zones: u32,
    /// From a node's start to that of its kube-proxy.
    pub boot: SimSpan,
    /// Other users of the xtables lock: changes by CNI plugins and kubelet on each node.
    pub lock_users_per_second: f64,
    /// For how long each holds it (mean, exponential).
    pub lock_held: SimSpan,
}

impl ControlConfig {
    /// Bytes of an object of so many endpoints in a watch event.
    pub fn encoded(&self, endpoints: u32) -> u64 {
        let json = self.object_bytes + u64::from(endpoints) * self.endpoint_bytes;
        match self.encoding {
            Encoding::Json => json,
            // Whole bytes; the ratio is an estimate anyway.
            Encoding::Protobuf => (json as f64 / self.protobuf_ratio) as u64,
        }
    }
}

impl Default for ControlConfig {
    /// `cmd/kube-controller-manager/app/options/endpointslicecontroller.go` and `pkg/controller/endpointslice`: 100
    /// endpoints a slice, 5 workers, no batching; the clients' 20 writes/s with bursts of 30 (`--kube-api-qps`,
    /// `--kube-api-burst`). Times of the API server are assumed.
    fn default() -> Self {
        ControlConfig {
            encoding: Encoding::Protobuf,
            etcd_write: SimSpan::from_ms(3),
            api_servers: 1,
            api_server_cores: 8,
            event_cpu: SimSpan::from_us(8),
            kilobyte_cpu: SimSpan::from_us(1),
            watch_fixed: SimSpan::from_ms(2),
            watch_random: SimSpan::from_ms(2),
            endpoints: EndpointsObjects::Slices { max: 100 },
            batch_period: SimSpan::ZERO,
            writes_per_second: 20.0,
            writes_burst: 30,
            workers: 5,
            object_bytes: 900,
            endpoint_bytes: 100,
            protobuf_ratio: 3.0,
            reconnect_max: SimSpan::from_secs(30),
        }
    }
}

impl Default for PodConfig {
    /// `pkg/apis/core/v1/defaults.go`: probes every 10 s, 30 s of grace. 110 pods a node is kubelet's `maxPods`.
    fn default() -> Self {
        PodConfig {
            scheduling: SimSpan::from_ms(50),
            startup: SimSpan::from_secs(2),
            probe_delay: SimSpan::ZERO,
            probe_period: SimSpan::from_secs(10),
            grace: SimSpan::from_secs(30),
            pre_stop: SimSpan::ZERO,
            shutdown: SimSpan::from_secs(1),
            per_node: 110,
        }
    }
}

impl Default for NodeConfig {
    /// `pkg/controller/nodelifecycle`: rounds of 5 s, 50 s of grace since 1.32 (40 s before), Leases renewed every
    /// 10 s, eviction after 300 s (`DefaultTolerationSeconds`). Users of the lock are assumed.
    fn default() -> Self {
        NodeConfig {
            heartbeat: SimSpan::from_secs(10),
            monitor_period: SimSpan::from_secs(5),
            monitor_grace: SimSpan::from_secs(50),
            eviction: SimSpan::from_secs(300),
            zones: 1,
            boot: SimSpan::from_secs(5),
            lock_users_per_second: 0.0,
            lock_held: SimSpan::from_ms(5),
        }
    }
}
