//! Every key of KubeProxyConfiguration v1alpha1 and what it takes.
//!
//! Source: `staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go`, release 1.36. Keys that shape no rule (addresses
//! of the metrics server, logging, Windows) are known, so that a mistyped key is found, and otherwise not looked at.

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// True or false.
    Bool,
    /// A whole number.
    Integer {
        /// Least value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// Any number.
    Number,
    /// A time as Go writes it; negative ones are refused.
    Duration,
    /// A list of texts.
    Texts,
    /// Names and booleans.
    Flags,
    /// Anything: nothing of it is read.
    Open,
    /// A table.
    Table(&'static [Key]),
}

impl Kind {
    /// What a message calls a value of this kind, with an example.
    pub fn expected(self) -> String {
        match self {
            Kind::Text => "text".into(),
            Kind::Bool => "true or false".into(),
            Kind::Integer { min, max } if max == i64::from(i32::MAX) => {
                format!("a whole number, at least {min}")
            }
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Number => "a number".into(),
            Kind::Duration => "a time with its unit, such as 30s, 1h30m or 200ms".into(),
            Kind::Texts => "a list of texts".into(),
            Kind::Flags => "names with true or false".into(),
            Kind::Open => "anything".into(),
            Kind::Table(_) => "a map".into(),
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// A bit of the packet mark.
const BIT: Kind = Kind::Integer { min: 0, max: 31 };
/// A count.
const COUNT: Kind = Kind::Integer { min: 0, max: i32::MAX as i64 };

/// The top level.
pub static CONFIGURATION: &[Key] = &[
    key("apiVersion", Kind::Text),
    key("kind", Kind::Text),
    key("featureGates", Kind::Flags),
    key("clientConnection", Kind::Table(CLIENT)),
    key("logging", Kind::Open),
    key("hostnameOverride", Kind::Text),
    key("bindAddress", Kind::Text),
    key("healthzBindAddress", Kind::Text),
    key("metricsBindAddress", Kind::Text),
    key("bindAddressHardFail", Kind::Bool),
    key("enableProfiling", Kind::Bool),
    key("showHiddenMetricsForVersion", Kind::Text),
    key("mode", Kind::Text),
    key("iptables", Kind::Table(IPTABLES)),
    key("ipvs", Kind::Table(IPVS)),
    key("nftables", Kind::Table(NFTABLES)),
    key("winkernel", Kind::Table(WINKERNEL)),
    key("detectLocalMode", Kind::Text),
    key("detectLocal", Kind::Table(DETECT_LOCAL)),
    key("clusterCIDR", Kind::Text),
    key("nodePortAddresses", Kind::Texts),
    key("oomScoreAdj", Kind::Integer { min: -1000, max: 1000 }),
    key("conntrack", Kind::Table(CONNTRACK)),
    key("configSyncPeriod", Kind::Duration),
    key("portRange", Kind::Text),
    key("windowsRunAsService", Kind::Bool),
];

static CLIENT: &[Key] = &[
    key("kubeconfig", Kind::Text),
    key("acceptContentTypes", Kind::Text),
    key("contentType", Kind::Text),
    key("qps", Kind::Number),
    key("burst", COUNT),
];

static IPTABLES: &[Key] = &[
    key("masqueradeBit", BIT),
    key("masqueradeAll", Kind::Bool),
    key("localhostNodePorts", Kind::Bool),
    key("syncPeriod", Kind::Duration),
    key("minSyncPeriod", Kind::Duration),
];

static IPVS: &[Key] = &[
    key("syncPeriod", Kind::Duration),
    key("minSyncPeriod", Kind::Duration),
    key("scheduler", Kind::Text),
    key("excludeCIDRs", Kind::Texts),
    key("strictARP", Kind::Bool),
    key("tcpTimeout", Kind::Duration),
    key("tcpFinTimeout", Kind::Duration),
    key("udpTimeout", Kind::Duration),
];

static NFTABLES: &[Key] = &[
    key("masqueradeBit", BIT),
    key("masqueradeAll", Kind::Bool),
    key("syncPeriod", Kind::Duration),
    key("minSyncPeriod", Kind::Duration),
];

static WINKERNEL: &[Key] = &[
    key("networkName", Kind::Text),
    key("sourceVip", Kind::Text),
    key("enableDSR", Kind::Bool),
    key("rootHnsEndpointName", Kind::Text),
    key("forwardHealthCheckVip", Kind::Bool),
];

static DETECT_LOCAL: &[Key] = &[key("bridgeInterface", Kind::Text), key("interfaceNamePrefix", Kind::Text)];

static CONNTRACK: &[Key] = &[
    key("maxPerCore", COUNT),
    key("min", COUNT),
    key("tcpEstablishedTimeout", Kind::Duration),
    key("tcpCloseWaitTimeout", Kind::Duration),
    key("tcpBeLiberal", Kind::Bool),
    key("udpTimeout", Kind::Duration),
    key("udpStreamTimeout", Kind::Duration),
];
