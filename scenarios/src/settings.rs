//! One sweep point read from its tree: every key of the table in its unit, with its place for the checks that follow.

use crate::control::Time;
use crate::diagnostic::Diagnostic;
use crate::events::Event;
use crate::keys::SCENARIO;
use crate::proxy::Proxy;
use crate::published::Published;
use crate::reader::{Context, Reader, Spot};
use crate::tree::{At, Table};
use ipnet::IpNet;
use sim_core::units::SimSpan;
use sim_models::config::EndpointLaw;
use std::net::{IpAddr, SocketAddr};

/// All settings of one sweep point. See [`crate::keys`] for what each means.
pub struct Settings {
    pub title: Spot<String>,
    pub seed: Spot<u64>,
    pub duration: Spot<SimSpan>,
    pub warmup: Spot<SimSpan>,
    pub cluster: Cluster,
    pub services: Vec<Service>,
    pub proxy: Proxy,
    pub kernel: Kernel,
    pub traffic: Vec<Traffic>,
    pub churn_rate: Spot<f64>,
    /// `[control]`, `[pods]`, `[nodes]`, `[faults]`
    pub time: Time,
    pub events: Vec<Event>,
    pub published: Vec<Published>,
    pub gates: Vec<Spot<String>>,
    pub charts: Vec<Chart>,
}

/// `[cluster]`
pub struct Cluster {
    pub nodes: Spot<u64>,
    /// Absent if not written.
    pub services: Option<Spot<u64>>,
    pub endpoints: Spot<EndpointLaw>,
    pub service_cidr: Spot<IpNet>,
    pub cluster_cidr: Spot<IpNet>,
    /// Absent if not written.
    pub import: Option<Spot<String>>,
}

/// `[[services]]`
pub struct Service {
    pub at: At,
    pub name: Spot<String>,
    pub namespace: Spot<String>,
    pub cluster_ip: Spot<IpAddr>,
    pub port: Spot<u64>,
    pub port_name: Spot<String>,
    pub protocol: Spot<String>,
    pub endpoints: Spot<Vec<SocketAddr>>,
}

/// `[kernel]`
pub struct Kernel {
    pub profile: Spot<String>,
    pub cache: Spot<String>,
    pub cores: Spot<u64>,
}

/// `[[traffic]]`
pub struct Traffic {
    pub name: Spot<String>,
    pub rate: Spot<f64>,
    pub requests: Spot<u64>,
    pub think: Spot<SimSpan>,
    pub service_time: Spot<SimSpan>,
    pub to: Spot<String>,
    pub timeout: Spot<SimSpan>,
    pub retries: Spot<u64>,
}

/// `[[charts]]`
pub struct Chart {
    pub x: Spot<String>,
    pub y: Spot<String>,
    pub by: Spot<String>,
    pub title: Spot<String>,
    pub log_x: Spot<bool>,
    pub log_y: Spot<bool>,
}

impl Settings {
    /// Reads a tree; errors go to the context.
    pub fn read(cx: &mut Context<'_>, root: &Table) -> Settings {
        let start = At { source: 0, start: 0, end: 0 };
        let top = Reader::new(cx, &SCENARIO, Some(root), "", start);
        let [cluster, proxy, kernel, churn] =
            ["cluster", "proxy", "kernel", "churn"].map(|name| top.table(cx, name));
        Settings {
            title: top.text(cx, "title"),
            seed: top.integer(cx, "seed"),
            duration: top.span(cx, "duration"),
            warmup: top.span(cx, "warmup"),
            cluster: Cluster::read(cx, &cluster),
            services: top.tables(cx, "services").iter().map(|r| Service::read(cx, r)).collect(),
            proxy: Proxy::read(cx, &proxy),
            kernel: Kernel::read(cx, &kernel),
            traffic: top.tables(cx, "traffic").iter().map(|r| Traffic::read(cx, r)).collect(),
            churn_rate: churn.rate(cx, "rate"),
            time: Time::read(cx, &top),
            events: top.tables(cx, "events").iter().map(|r| Event::read(cx, r)).collect(),
            published: top.tables(cx, "published").iter().map(|r| Published::read(cx, r)).collect(),
            gates: top.tables(cx, "gates").iter().map(|r| r.text(cx, "expect")).collect(),
            charts: top.tables(cx, "charts").iter().map(|r| Chart::read(cx, r)).collect(),
        }
    }
}

impl Cluster {
    fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Cluster {
        Cluster {
            nodes: r.integer(cx, "nodes"),
            services: r.entry("services").map(|_| r.integer(cx, "services")),
            endpoints: r.endpoints(cx, "endpoints"),
            service_cidr: r.cidr(cx, "service_cidr"),
            cluster_cidr: r.cidr(cx, "cluster_cidr"),
            import: r.entry("import").map(|_| r.text(cx, "import")),
        }
    }
}

impl Service {
    fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Service {
        let service = Service {
            at: r.at(),
            name: r.text(cx, "name"),
            namespace: r.text(cx, "namespace"),
            cluster_ip: r.address(cx, "cluster_ip"),
            port: r.integer(cx, "port"),
            port_name: r.text(cx, "port_name"),
            protocol: r.text(cx, "protocol"),
            endpoints: r.targets(cx, "endpoints"),
        };
        for (key, spot, may_be_empty) in [
            ("name", &service.name, false),
            ("namespace", &service.namespace, false),
            ("port_name", &service.port_name, true),
        ] {
            let empty_is_fine = spot.value.is_empty() && may_be_empty;
            if spot.ok && !empty_is_fine && !is_dns_label(&spot.value) {
                let message = format!("`{}` is not a name that Kubernetes takes", spot.value);
                cx.out.push(Diagnostic::new(spot.at, &r.key_path(key), message).help(
                    "allowed: lower-case letters, digits and -, at most 63, a letter or digit at both ends",
                ));
            }
        }
        service
    }
}

/// RFC 1123 label.
fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl Kernel {
    fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Kernel {
        Kernel { profile: r.text(cx, "profile"), cache: r.text(cx, "cache"), cores: r.integer(cx, "cores") }
    }
}

impl Traffic {
    fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Traffic {
        let connection = r.table(cx, "connection");
        Traffic {
            name: r.text(cx, "name"),
            rate: r.rate(cx, "rate"),
            requests: connection.integer(cx, "requests"),
            think: connection.span(cx, "think"),
            service_time: connection.span(cx, "service_time"),
            to: r.text(cx, "to"),
            timeout: r.span(cx, "timeout"),
            retries: r.integer(cx, "retries"),
        }
    }
}

impl Chart {
    fn read(cx: &mut Context<'_>, r: &Reader<'_>) -> Chart {
        Chart {
            x: r.text(cx, "x"),
            y: r.text(cx, "y"),
            by: r.text(cx, "by"),
            title: r.text(cx, "title"),
            log_x: r.boolean(cx, "log_x"),
            log_y: r.boolean(cx, "log_y"),
        }
    }
}
