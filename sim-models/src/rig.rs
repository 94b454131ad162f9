//! The rig that packet costs were measured on, rebuilt, so that a profile can be held against every cell.
//!
//! Services `0..S` have VIPs 172.20.0.1+i, port 80 to 8080, with E endpoints each. One packet at a time goes
//! from a pod's veth through PREROUTING, routing, FORWARD and POSTROUTING to a backend's veth. `first_pkt` is
//! the SYN of a fresh flow, `est_pkt_*` an ACK of an established one; a figure is the median over packets.
//! At position `rand` every packet goes to another VIP. The rig's rules are kube-proxy's without what it adds
//! for itself: no mangle table, no canary chains, no loopback protection, no nfacct.
//!
//! Left out: feature cases other than pod to ClusterIP, and the wall times of loading rules.

use crate::config::{CacheState, IpvsConfig, ProxyConfig};
use crate::kernel::cost::{CostProfile, Locality};
use crate::kernel::path::{Crossing, NodeState, Origin, Stack, cross};
use crate::kernel::rules::NodeRules;
use crate::kernel::xtables::{TableName, layout};
use crate::kube::{Endpoint, EndpointLists, ProxyObjects, ServicePort};
use crate::proxy;
use sim_core::classify::{Packet, TcpFlags, Work};
use sim_core::rng::Stream;
use sim_core::units::{SimSpan, SimTime};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Packets before the measured ones, and measured packets of one repetition.
const WARM_UP: u32 = 200;
const MEASURED: u32 = 200;
/// The rig's client pod and node.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 64, 1, 2));
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));

/// One cell of a file of measurements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Kernel column, for example `host618`.
    pub kernel: String,
    /// Case column; `grid` where the file has none.
    pub case: String,
    /// Mode column: `ipt`, `nft`, `nft136`, `ipvs-rr`, ...
    pub mode: String,
    /// Services.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
    /// `first`, `mid`, `last`, `rand`, or `NA`.
    pub position: String,
    /// Metric.
    pub metric: String,
}

impl Cell {
    /// The cell's ruleset: everything but position and metric.
    pub fn ruleset(&self) -> Cell {
        Cell { position: String::new(), metric: String::new(), ..self.clone() }
    }
}

/// A measured cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Which.
    pub cell: Cell,
    /// Unit of the value.
    pub unit: String,
    /// Repetitions of which the best median was kept.
    pub reps: u32,
    /// The best median.
    pub value: f64,
}

/// A cell that the model has no figure for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unpredicted(pub String);

impl Unpredicted {
    /// The reason for a metric that is not predicted.
    pub fn metric(name: &str) -> Self {
        let what = if name.contains("wall") || name.contains("_user") || name.contains("_sys") {
            "wall times of loading, changing and listing rules are not predicted yet"
        } else if name.starts_with("kubeproxy_") {
            "whole syncs of kube-proxy are not validated yet"
        } else {
            "not a metric that is predicted"
        };
        Unpredicted(what.to_owned())
    }
}

/// A prediction and the work of the packet it is the cost of.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// In the profile's unit, or bytes and counts for `blob_*`.
    pub value: f64,
    /// Work of the median packet.
    pub work: Work,
    /// How packets spread, which decides what caches hold.
    pub locality: Locality,
    /// Standard error of a measured median of 200 packets, as a share of it, that the choice of Services and
    /// endpoints alone causes: what no model can predict.
    pub sampling_error: f64,
}

/// A ruleset under test; built once for all cells of one (mode, services, endpoints).
pub struct Rig {
    objects: ProxyObjects,
    rules: NodeRules,
    stack: Stack,
    services: u32,
    endpoints: u32,
    /// How packets to random Services spread.
    spread: Locality,
}

impl Rig {
    /// Builds the rules of `cell`'s mode and size and compiles them.
    ///
    /// # Errors
    /// If the cell's case or mode is not one the rig can rebuild.
    pub fn new(cell: &Cell) -> Result<Self, Unpredicted> {
        if !["grid", "ipvs_grid", "ipvs_sched", "clusterip_ref"].contains(&cell.case.as_str()) {
            return Err(Unpredicted(format!(
                "case {}: only pod to ClusterIP over IPv4 TCP is rebuilt so far",
                cell.case
            )));
        }
        let endpoints = u64::from(cell.services) * u64::from(cell.endpoints);
        if cell.services == 0 || cell.endpoints == 0 || cell.services > 100_000 || endpoints > 1_000_000 {
            let (s, e) = (cell.services, cell.endpoints);
            return Err(Unpredicted(format!(
                "{s} Services of {e} endpoints: the rig had 1 to 100,000, and endpoints"
            )));
        }
        let objects = objects(cell.services, cell.endpoints);
        let rules = rules(&cell.mode, &objects)?;
        let stack = Stack::new(&rules, 1).map_err(|e| Unpredicted(e.to_string()))?;
        let spread = Locality::repeated(CacheState::Hot);
        let mut rig =
            Rig { objects, rules, stack, services: cell.services, endpoints: cell.endpoints, spread };
        rig.measure_locality();
        Ok(rig)
    }

    /// Lines of the longest walk, and lines that change with the Service called.
    fn measure_locality(&mut self) {
        let mut state = NodeState::new(1, "rig", 2, &[NODE]);
        let last = self.syn(&mut state, self.services - 1, 1);
        self.spread = Locality {
            services: f64::from(self.services),
            endpoints: f64::from(self.endpoints),
            ..self.spread.with_lines_of(&last.work)
        };
    }

    /// Predicts `cell`, which must have the mode and size the rig was built for.
    ///
    /// # Errors
    /// If the metric is not one the model has.
    pub fn predict(
        &self,
        measurement: &Measurement,
        profile: &CostProfile,
    ) -> Result<Prediction, Unpredicted> {
        let cell = &measurement.cell;
        if measurement.value == 0.0 {
            return Err(Unpredicted("measured as zero: no error can be told as a share of it".to_owned()));
        }
        if let Some(blob) = self.blob(&cell.metric) {
            let (work, locality) = (Work::new(), Locality::repeated(CacheState::Hot));
            return Ok(Prediction { value: blob, work, locality, sampling_error: 0.0 });
        }
        if measurement.unit != profile.unit {
            let (theirs, ours) = (&measurement.unit, &profile.unit);
            return Err(Unpredicted(format!(
                "measured in {theirs}, and profile {} predicts {ours}",
                profile.name
            )));
        }
        // Repetitions on another set-up of a rig have its name with a suffix.
        let rig = profile
            .rigs
            .iter()
            .find(|(name, _)| cell.kernel.starts_with(name.as_str()))
            .map(|(_, c)| c.value);
        if rig.is_none() && cell.kernel != profile.kernel {
            let (kernel, name) = (&cell.kernel, &profile.name);
            return Err(Unpredicted(format!("kernel {kernel}: profile {name} was not fitted on it")));
        }
        let (base, state) = match cell.metric.split_once("_cold") {
            None => (cell.metric.as_str(), CacheState::Hot),
            Some((base, "8")) => (base, CacheState::Shared),
            Some((base, "1024")) => (base, CacheState::Cold),
            Some(_) => return Err(Unpredicted(format!("metric {}: unknown cache state", cell.metric))),
        };
        if state != CacheState::Hot && rig.is_some() {
            let why =
                format!("{}: the profile knows only a constant of this rig, not its caches", cell.kernel);
            return Err(Unpredicted(why));
        }
        let first = match base {
            "first_pkt" => true,
            "est_pkt_1flow" | "est_pkt_100flows" | "est_pkt_1000flows" => false,
            _ => return Err(Unpredicted::metric(&cell.metric)),
        };
        let spread = cell.position == "rand";
        let positions = self.positions(&cell.position)?;
        let locality = if spread { Locality { state, ..self.spread } } else { Locality::repeated(state) };
        let residency = profile.residency(&locality);
        let crossings =
            if first { self.first_packets(&positions) } else { self.established_packets(&positions, base) };
        let mut costs: Vec<(f64, Work)> =
            crossings.iter().map(|c| (profile.cost(&c.work, &residency, first), c.work)).collect();
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let offset = rig.unwrap_or(0.0);
        let (low, high) = (costs[(costs.len() - 1) / 2], costs[costs.len() / 2]);
        let value = (low.0 + high.0) / 2.0 + offset;
        // The order statistics that are one standard error of a sample median away from it.
        let n = costs.len() as f64;
        let step = (0.5 * n.sqrt()).ceil() as usize;
        let (below, above) = (costs[costs.len() / 2 - step].0, costs[costs.len() / 2 + step].0);
        let sampling_error = (above - below) / 2.0 / value.max(1.0);
        Ok(Prediction { value, work: low.1, locality, sampling_error })
    }

    fn blob(&self, metric: &str) -> Option<f64> {
        let nat = self.rules.xtables.iter().find(|t| t.name == TableName::Nat)?;
        let size = layout::blob_size(nat);
        match metric {
            "blob_bytes" => Some(size.bytes as f64),
            "blob_entries" => Some(size.entries as f64),
            _ => None,
        }
    }

    /// Places of the Services that packets go to, in order.
    fn positions(&self, position: &str) -> Result<Vec<u32>, Unpredicted> {
        let n = self.services;
        let total = WARM_UP + MEASURED;
        Ok(match position {
            "first" => vec![0; total as usize],
            "mid" => vec![n / 2; total as usize],
            "last" => vec![n - 1; total as usize],
            // Every part of the table equally often, in an order without pattern, so that the median has no
            // sampling error of its own.
            "rand" => {
                let mut stream = Stream::new(1, "rig", "positions");
                let mut places: Vec<u32> = Vec::new();
                for (round, measured) in [(WARM_UP, false), (MEASURED, true)] {
                    let mut part: Vec<u32> = (0..round).collect();
                    for i in (1..part.len()).rev() {
                        part.swap(i, stream.below(i as u64 + 1) as usize);
                    }
                    let share = f64::from(n) / f64::from(round);
                    let within = |stratum: u32, u: f64| ((f64::from(stratum) + u) * share) as u32;
                    let mut u = || if measured { 0.5 } else { stream.unit_f64() };
                    places.extend(part.into_iter().map(|s| within(s, u()).min(n - 1)));
                }
                places
            }
            other => return Err(Unpredicted(format!("position {other}: not first, mid, last or rand"))),
        })
    }

    fn syn(&self, state: &mut NodeState, service: u32, flow: u32) -> Crossing {
        let port = &self.objects.ports[service as usize];
        let sport = 1024 + (flow % 60_000) as u16;
        cross(
            &self.stack,
            state,
            Packet::tcp_syn(CLIENT, sport, port.cluster_ip, port.port),
            Origin::Pod,
            SimTime::from_ns(u64::from(flow) * 100_000),
        )
    }

    fn first_packets(&self, positions: &[u32]) -> Vec<Crossing> {
        let mut state = NodeState::new(1, "rig", 2, &[NODE]);
        let all = positions.iter().enumerate().map(|(i, &p)| self.syn(&mut state, p, i as u32));
        all.skip(WARM_UP as usize).collect()
    }

    fn established_packets(&self, positions: &[u32], metric: &str) -> Vec<Crossing> {
        let flows = match metric {
            "est_pkt_1flow" => 1,
            "est_pkt_100flows" => 100,
            _ => 1000,
        };
        let mut state = NodeState::new(1, "rig", 2, &[NODE]);
        let now = SimTime::ZERO + SimSpan::from_secs(1);
        let opened: Vec<Packet> = (0..flows)
            .map(|i| {
                let service = positions[i as usize % positions.len()];
                let syn = self.syn(&mut state, service, i);
                let port = &self.objects.ports[service as usize];
                let request = Packet::tcp_syn(CLIENT, 1024 + i as u16, port.cluster_ip, port.port);
                let answer = Packet {
                    src: syn.packet.dst,
                    sport: syn.packet.dport,
                    dst: syn.packet.src,
                    dport: syn.packet.sport,
                    flags: TcpFlags::SYN_ACK,
                    ..syn.packet
                };
                cross(&self.stack, &mut state, answer, Origin::Pod, now);
                let ack = request.with_flags(TcpFlags::ACK);
                cross(&self.stack, &mut state, ack, Origin::Pod, now);
                ack
            })
            .collect();
        (0..MEASURED as usize)
            .map(|i| cross(&self.stack, &mut state, opened[i % opened.len()], Origin::Pod, now))
            .collect()
    }
}

/// Whether cells of this metric can be predicted at all.
pub fn is_predicted(metric: &str) -> bool {
    metric.starts_with("first_pkt") || metric.starts_with("est_pkt") || metric.starts_with("blob_")
}

/// Why a recorded cell is known to be off, as its authors say; `None` for a sound one.
pub fn blemish(cell: &Cell) -> Option<&'static str> {
    let sized = |services, endpoints| cell.services == services && cell.endpoints == endpoints;
    match cell.kernel.as_str() {
        "host618" if cell.case == "grid" && cell.endpoints == 10 && matches!(cell.services, 2000 | 4000) => {
            Some("host618 E=10 at S=2000/4000 was recorded in a slow episode")
        }
        "uml612ct12" => {
            Some("everything about ipvs with the 4096-bucket connection table is noisy on uml612")
        }
        "uml612" if sized(1000, 10) => Some("uml612 (1000, E=10) is noisy"),
        "uml612" if cell.services == 16_000 => Some("uml612 at S=16000 is noisy"),
        "uml612" if cell.case.ends_with("_tab4096") => {
            Some("the 4096-bucket connection table is noisy on uml612")
        }
        _ => None,
    }
}

/// A crossing of two modes at random position with one endpoint, interpolated between neighbouring sizes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CellCrossover {
    /// Mode that is lower beyond it.
    pub better: String,
    /// Mode that is lower before it.
    pub worse: String,
    /// From measured cells.
    pub measured: Option<f64>,
    /// From predicted cells.
    pub predicted: Option<f64>,
}

/// Where the other modes begin to beat iptables, by measurement and by prediction.
pub fn crossovers(pairs: &[(Measurement, f64)]) -> Vec<CellCrossover> {
    let curve = |mode: &str, predicted: bool| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = pairs
            .iter()
            .filter(|(m, _)| {
                let c = &m.cell;
                blemish(c).is_none()
                    && c.kernel == pairs[0].0.cell.kernel
                    && c.mode == mode
                    && c.endpoints == 1
                    && c.position == "rand"
                    && c.metric == "first_pkt"
            })
            .map(|(m, p)| (f64::from(m.cell.services), if predicted { *p } else { m.value }))
            .collect();
        // Of a size measured twice the better run counts, as within a run.
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        points.dedup_by_key(|p| p.0);
        points
    };
    let crossing = |better: &[(f64, f64)], worse: &[(f64, f64)]| -> Option<f64> {
        let both: Vec<(f64, f64)> = better
            .iter()
            .filter_map(|b| worse.iter().find(|w| w.0 == b.0).map(|w| (b.0, w.1 - b.1)))
            .collect();
        both.windows(2).find(|w| w[0].1 < 0.0 && w[1].1 >= 0.0).map(|w| {
            let ((x0, d0), (x1, d1)) = (w[0], w[1]);
            x0 + (x1 - x0) * -d0 / (d1 - d0)
        })
    };
    let mut modes: Vec<&str> = pairs.iter().map(|(m, _)| m.cell.mode.as_str()).collect();
    modes.sort_unstable();
    modes.dedup();
    modes
        .iter()
        .filter(|m| **m != "ipt" && !curve(m, false).is_empty() && !curve("ipt", false).is_empty())
        .map(|m| CellCrossover {
            better: (*m).to_owned(),
            worse: "ipt".to_owned(),
            measured: crossing(&curve(m, false), &curve("ipt", false)),
            predicted: crossing(&curve(m, true), &curve("ipt", true)),
        })
        .collect()
}

/// Reads a file of measurements: a heading with the columns `kernel`, `mode`, `services`, `endpoints`,
/// `position`, `metric`, `unit`, `reps`, `best_median` in any order, `case` optional, others ignored.
///
/// # Errors
/// Every wrong line as `line: what`.
pub fn parse_csv(text: &str) -> Result<Vec<Measurement>, Vec<String>> {
    let mut lines = text.lines().enumerate();
    let Some((_, heading)) = lines.next() else { return Err(vec!["1: the file is empty".to_owned()]) };
    let columns: Vec<&str> = heading.split(',').map(str::trim).collect();
    let place = |name: &str| columns.iter().position(|c| *c == name);
    let required = ["kernel", "mode", "services", "endpoints", "position", "metric", "unit", "best_median"];
    let missing: Vec<&str> = required.into_iter().filter(|c| place(c).is_none()).collect();
    if !missing.is_empty() {
        return Err(vec![format!("1: no column {}; the heading is {heading:?}", missing.join(", "))]);
    }
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in lines.filter(|(_, l)| !l.trim().is_empty()) {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |name: &str| place(name).and_then(|i| fields.get(i)).copied().unwrap_or("");
        let mut complain = |name: &str| {
            let what = if fields.len() < columns.len() { "missing" } else { "not a number from zero up" };
            errors.push(format!("{}: column {name}: {what}: {:?}", number + 1, field(name)));
        };
        let services = field("services").parse::<u32>();
        let endpoints = field("endpoints").parse::<u32>();
        let value = field("best_median").parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
        let (Ok(services), Ok(endpoints), Some(value)) = (services.clone(), endpoints.clone(), value) else {
            for (bad, name) in [
                (services.is_err(), "services"),
                (endpoints.is_err(), "endpoints"),
                (value.is_none(), "best_median"),
            ] {
                if bad {
                    complain(name);
                }
            }
            continue;
        };
        let case = match field("case") {
            "" => "grid",
            case => case,
        };
        rows.push(Measurement {
            cell: Cell {
                kernel: field("kernel").to_owned(),
                case: case.to_owned(),
                mode: field("mode").to_owned(),
                services,
                endpoints,
                position: field("position").to_owned(),
                metric: field("metric").to_owned(),
            },
            unit: field("unit").to_owned(),
            reps: field("reps").parse().unwrap_or(1),
            value,
        });
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

/// The rig's Services.
fn objects(services: u32, endpoints: u32) -> ProxyObjects {
    let vip = |i: u32| IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 20, 0, 1)) + i));
    let ports = (0..services)
        .map(|i| {
            let mut list: Vec<Endpoint> = (0..endpoints)
                .map(|k| {
                    let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 80, 1, 0)) + i * endpoints + k);
                    Endpoint { addr: SocketAddr::new(ip.into(), 8080), is_local: false }
                })
                .collect();
            list.sort_by_key(|e| e.addr.to_string());
            let endpoints = EndpointLists::ready(list);
            ServicePort::http(&format!("ns-{i}"), &format!("svc-{i:05}"), vip(i), endpoints)
        })
        .collect();
    ProxyObjects {
        ports,
        service_cidrs: vec!["172.20.0.0/14".parse().expect("a constant")],
        node_ips: vec![NODE],
        ..ProxyObjects::default()
    }
}

fn rules(mode: &str, objects: &ProxyObjects) -> Result<NodeRules, Unpredicted> {
    let (mode_name, minor, scheduler) = match mode {
        "ipt" => ("iptables", 36, "rr"),
        "nft136" => ("nftables", 36, "rr"),
        "nft" => ("nftables", 29, "rr"),
        other => match other.strip_prefix("ipvs-") {
            Some(scheduler) => ("ipvs", 36, scheduler),
            None => return Err(Unpredicted(format!("mode {other}: not rebuilt so far"))),
        },
    };
    let config = ProxyConfig {
        mode: mode_name.to_owned(),
        kubernetes_minor: minor,
        ipvs: IpvsConfig { scheduler: scheduler.to_owned(), ..IpvsConfig::default() },
        cluster_cidrs: vec!["10.64.0.0/10".parse().expect("a constant")],
        ..ProxyConfig::default()
    };
    let mut rules = if mode_name == "ipvs" {
        proxy::ipvs::build_measured_shape(objects, &config, sim_core::classify::Family::Ipv4)
    } else {
        let mode = proxy::mode(mode_name).expect("one of the two above");
        mode.build(objects, &config, sim_core::classify::Family::Ipv4)
    };
    // kube-proxy gives mh a flag (`FlagSourceHash`) that means mh-port; ipvsadm, which the rig used, gives none.
    for server in &mut rules.ipvs {
        server.flags = Default::default();
    }
    rules.strip_own_additions();
    Ok(rules)
}
