//! `[proxy]`: kube-proxy's settings as a scenario writes them, over its configuration file if it names one.

use crate::keys::Family;
use crate::kube_proxy::{INTERFACE_ALLOWED, KubeProxyConfiguration, interface_name};
use crate::reader::{Context, Reader, Spot, contradiction};
use crate::refusal::plain_span;
use crate::settings::{Cluster, Settings};
use ipnet::IpNet;
use sim_core::units::SimSpan;
use sim_models::config::{DetectLocal, NodePortAddresses, ProxyConfig, XtablesBackend};
use sim_models::kernel::ipvs::Tables;

/// `[proxy]`
pub struct Proxy {
    /// Path of the configuration file; absent if not written.
    pub file: Option<Spot<String>>,
    pub modes: Spot<Vec<String>>,
    pub kubernetes: Spot<u32>,
    pub backend: Spot<String>,
    pub scheduler: Spot<String>,
    pub masquerade_bit: Spot<u64>,
    pub masquerade_all: Spot<bool>,
    /// Rules without kube-proxy's own additions.
    pub bare_rules: Spot<bool>,
    pub detect_local: Spot<String>,
    /// Absent if not written.
    pub bridge_interface: Option<Spot<String>>,
    /// Absent if not written.
    pub interface_name_prefix: Option<Spot<String>>,
    pub localhost_node_ports: Spot<bool>,
    pub node_port_addresses: Spot<NodePortAddresses>,
    /// Absent if not written: the mode's own default.
    pub min_sync_period: Option<Spot<SimSpan>>,
    pub sync_period: Spot<SimSpan>,
    pub strict_arp: Spot<bool>,
    pub exclude_cidrs: Spot<Vec<IpNet>>,
    pub ipvs_timeouts: [Spot<SimSpan>; 3],
    pub ipvs_tables: Spot<String>,
    pub conntrack: Conntrack,
}

/// `[proxy.conntrack]`
pub struct Conntrack {
    pub max_per_core: Spot<u64>,
    pub min: Spot<u64>,
    pub tcp_established_timeout: Spot<SimSpan>,
    pub tcp_close_wait_timeout: Spot<SimSpan>,
    pub tcp_be_liberal: Spot<bool>,
    pub udp_timeout: Spot<SimSpan>,
    pub udp_stream_timeout: Spot<SimSpan>,
}

impl Proxy {
    /// Reads the table.
    pub fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Proxy {
        let (ipvs, conntrack) = (r.table(cx, "ipvs"), r.table(cx, "conntrack"));
        Proxy {
            file: r.entry("config").map(|_| r.text(cx, "config")),
            modes: r.names(cx, "modes"),
            kubernetes: r.version(cx, "kubernetes"),
            backend: r.text(cx, "backend"),
            scheduler: r.text(cx, "scheduler"),
            masquerade_bit: r.integer(cx, "masquerade_bit"),
            masquerade_all: r.boolean(cx, "masquerade_all"),
            bare_rules: r.boolean(cx, "bare_rules"),
            detect_local: r.text(cx, "detect_local"),
            bridge_interface: r.entry("bridge_interface").map(|_| r.text(cx, "bridge_interface")),
            interface_name_prefix: r
                .entry("interface_name_prefix")
                .map(|_| r.text(cx, "interface_name_prefix")),
            localhost_node_ports: r.boolean(cx, "localhost_node_ports"),
            node_port_addresses: r.node_port_addresses(cx, "node_port_addresses"),
            min_sync_period: r.entry("min_sync_period").map(|_| r.span(cx, "min_sync_period")),
            sync_period: r.span(cx, "sync_period"),
            strict_arp: ipvs.boolean(cx, "strict_arp"),
            exclude_cidrs: ipvs.cidrs(cx, "exclude_cidrs"),
            ipvs_timeouts: ["tcp_timeout", "tcp_fin_timeout", "udp_timeout"].map(|key| ipvs.span(cx, key)),
            ipvs_tables: ipvs.text(cx, "tables"),
            conntrack: Conntrack {
                max_per_core: conntrack.integer(cx, "max_per_core"),
                min: conntrack.integer(cx, "min"),
                tcp_established_timeout: conntrack.span(cx, "tcp_established_timeout"),
                tcp_close_wait_timeout: conntrack.span(cx, "tcp_close_wait_timeout"),
                tcp_be_liberal: conntrack.boolean(cx, "tcp_be_liberal"),
                udp_timeout: conntrack.span(cx, "udp_timeout"),
                udp_stream_timeout: conntrack.span(cx, "udp_stream_timeout"),
            },
        }
    }

    /// Checks what hangs together.
    pub fn check(&self, cx: &mut Context<'_>) {
        for (key, spot) in [
            ("bridge_interface", &self.bridge_interface),
            ("interface_name_prefix", &self.interface_name_prefix),
        ] {
            let by = &self.detect_local;
            match spot {
                None if by.ok && by.written && by.value == key => {
                    let d = by.wrong(format!("`detect_local = \"{key}\"` needs the key `{key}`"));
                    cx.out.push(d.help(format!("allowed: {INTERFACE_ALLOWED}")));
                }
                Some(spot) if spot.ok && by.ok && by.value != key => {
                    let message = format!("`{key}` is read only with `detect_local = \"{key}\"`");
                    cx.out.push(spot.wrong(message));
                }
                Some(spot) if spot.ok => {
                    if let Err(message) = interface_name(&spot.value) {
                        cx.out.push(spot.wrong(message).help(format!("allowed: {INTERFACE_ALLOWED}")));
                    }
                }
                _ => {}
            }
        }
        if let Some(least) = &self.min_sync_period
            && least.ok
            && self.sync_period.ok
            && least.value > self.sync_period.value
        {
            let told = |span: SimSpan| plain_span(span.as_ns());
            let (min, max) = (told(least.value), told(self.sync_period.value));
            let message = format!("`min_sync_period` ({min}) is longer than `sync_period` ({max})");
            let d = contradiction(least.place(), self.sync_period.place(), &max, message);
            cx.out.push(d.help("reason: kube-proxy refuses such a configuration"));
        }
    }

    /// The configuration of one mode: what is written here, over `file`, over the defaults.
    pub fn config(
        &self,
        mode: &str,
        cluster: &Cluster,
        file: Option<&KubeProxyConfiguration>,
    ) -> ProxyConfig {
        let mut config = match file {
            Some(file) => file.proxy(mode),
            None => ProxyConfig {
                mode: mode.to_owned(),
                min_sync_period: ProxyConfig::default_min_sync_period(mode),
                ..ProxyConfig::default()
            },
        };
        config.kubernetes_minor = self.kubernetes.value;
        config.bare_rules = self.bare_rules.value;
        config.backend =
            if self.backend.value == "nft" { XtablesBackend::Nft } else { XtablesBackend::Legacy };
        let bit = u8::try_from(self.masquerade_bit.value).expect("at most 31");
        put(&mut config.masquerade_bit, &self.masquerade_bit, bit);
        set(&mut config.masquerade_all, &self.masquerade_all);
        set(&mut config.localhost_node_ports, &self.localhost_node_ports);
        set(&mut config.node_port_addresses, &self.node_port_addresses);
        set(&mut config.sync_period, &self.sync_period);
        if let Some(spot) = &self.min_sync_period {
            config.min_sync_period = spot.value;
        }
        set(&mut config.ipvs.scheduler, &self.scheduler);
        set(&mut config.ipvs.strict_arp, &self.strict_arp);
        set(&mut config.ipvs.exclude_cidrs, &self.exclude_cidrs);
        for (timeout, spot) in config.ipvs.timeouts.iter_mut().zip(&self.ipvs_timeouts) {
            set(timeout, spot);
        }
        if self.ipvs_tables.value == "resizable" {
            config.ipvs.tables = Tables::RESIZABLE;
        }
        let (to, from) = (&mut config.conntrack, &self.conntrack);
        let count = |spot: &Spot<u64>| u32::try_from(spot.value).expect("limits are below 2^32");
        put(&mut to.max_per_core, &from.max_per_core, count(&from.max_per_core));
        put(&mut to.min, &from.min, count(&from.min));
        set(&mut to.tcp_established, &from.tcp_established_timeout);
        set(&mut to.tcp_close_wait, &from.tcp_close_wait_timeout);
        set(&mut to.tcp_be_liberal, &from.tcp_be_liberal);
        set(&mut to.udp, &from.udp_timeout);
        set(&mut to.udp_stream, &from.udp_stream_timeout);
        self.detect_local(&mut config, cluster, file.is_some());
        config
    }

    fn detect_local(&self, config: &mut ProxyConfig, cluster: &Cluster, has_file: bool) {
        let name = |spot: &Option<Spot<String>>| spot.as_ref().map_or("", |spot| &spot.value).into();
        let by_file = has_file && !self.detect_local.written;
        if !by_file {
            config.detect_local = match self.detect_local.value.as_str() {
                "node_cidr" => DetectLocal::NodeCidr,
                "bridge_interface" => DetectLocal::BridgeInterface(name(&self.bridge_interface)),
                "interface_name_prefix" => {
                    DetectLocal::InterfaceNamePrefix(name(&self.interface_name_prefix))
                }
                _ => DetectLocal::ClusterCidr,
            };
        }
        let own = cluster.cluster_cidr.value;
        let uses_own = match config.detect_local {
            DetectLocal::ClusterCidr if by_file => cluster.cluster_cidr.written,
            DetectLocal::ClusterCidr => self.detect_local.value == "cluster_cidr",
            _ => false,
        };
        if uses_own {
            // The scenario has one network; of the other family, the file's stays.
            config.cluster_cidrs.retain(|net| net.addr().is_ipv4() != own.addr().is_ipv4());
            config.cluster_cidrs.insert(0, own);
        } else if !by_file {
            config.cluster_cidrs.clear();
        }
    }
}

/// Takes what is written; without a file the default is already there, and the same.
fn set<T: Clone>(to: &mut T, spot: &Spot<T>) {
    put(to, spot, spot.value.clone());
}

fn put<T, S>(to: &mut T, spot: &Spot<S>, value: T) {
    if spot.written {
        *to = value;
    }
}

/// What of the file reaches beyond `[proxy]`: the mode, and the network that generated pods have their addresses from.
pub fn put_under(cx: &mut Context<'_>, s: &mut Settings, file: Option<&KubeProxyConfiguration>) {
    let Some(file) = file else { return };
    if !s.proxy.modes.written {
        let known = cx.known.names(Family::Mode);
        if known.iter().any(|mode| mode.name == file.mode) {
            s.proxy.modes.value = vec![file.mode.clone()];
        } else if let Some(spot) = &s.proxy.file {
            let names: Vec<&str> = known.iter().map(|mode| mode.name.as_str()).collect();
            let d = spot.wrong(format!("its mode, {}, is not simulated", file.mode));
            cx.out.push(d.help(format!("proxy.modes says otherwise: {}", names.join(", "))));
        }
    }
    if !s.proxy.sync_period.written {
        s.proxy.sync_period.value = file.proxy(&file.mode).sync_period;
    }
    if !s.cluster.cluster_cidr.written {
        let ipv4 = s.cluster.service_cidr.value.addr().is_ipv4();
        let nets = file.proxy(&file.mode).cluster_cidrs;
        if let Some(net) = nets.iter().find(|net| net.addr().is_ipv4() == ipv4) {
            s.cluster.cluster_cidr.value = net.trunc();
        }
    }
}
