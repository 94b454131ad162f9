//! What each case of the measurements is: the objects of its ruleset, and the packets that were sent.
//!
//! | case | ruleset and packet |
//! |---|---|
//! | `grid`, `ipvs_grid`, `ipvs_sched`, `clusterip_ref`, `iptnft` | ClusterIP Services; a pod's SYN to one of them |
//! | `udp`, `ipv6` | the same with UDP, and with IPv6 addresses |
//! | `nodeport`, `nodeport_clusterip` | every Service has NodePort 30000+i; a client outside calls it on the node's address; a pod calls the ClusterIP |
//! | `externalip` | every Service has the external address 198.18.0.1+i, which a client outside calls |
//! | `masq_ext` | a client outside calls a ClusterIP, which asks for masquerading |
//! | `host_out`, `host_out_masq` | a socket of the node calls a ClusterIP, bound to an address inside the pods' network, or to the node's |
//! | `affinity_miss`, `affinity_hit` | ClientIP affinity on every Service; a client that was never seen, or the same one again |
//! | `reject_limited`, `reject_sent` | ten more Services without endpoints; a pod calls one of those. The kernel limits errors to one a second and peer, or does not limit them |
//! | `miss_podip`, `miss_vipport`, `miss_unalloc_vip`, `miss_ext_to_nodeip` | a pod calls a pod, a closed port of a ClusterIP, an address of no Service; a client outside calls a closed port of the node |
//! | `pre121`, `pre121_masq`, `pre121_miss_podip` | two rules a Service in KUBE-SERVICES; like `grid`, `masq_ext` and `miss_podip` |
//! | `ipvs_conns_N_tabB` | N connections of others in an IPVS table of B buckets |
//! | `ct_entries_N` | N connections of others in conntrack |
//! | `ct_full_syn`, `ct_full_est`, `..._miss` | conntrack is full of unanswered, or of answered connections |
//!
//! Before the measured packets 200 others of the same kind were sent. A flow of `est_pkt_*` was opened by SYN,
//! SYN-ACK and ACK; for UDP by a datagram each way.

use super::cell::{Cell, Unpredicted};
use sim_core::classify::{Family, Proto};

/// Who sends to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    PodToVip,
    PodToPod,
    PodToClosedPort,
    PodToNoService,
    PodToNoEndpoints,
    WireToVip,
    WireToNodePort,
    WireToExternalIp,
    WireToNode,
    /// From the node's own address, or from one inside the pods' network.
    HostToVip {
        from_node_address: bool,
    },
}

/// What fills conntrack before the packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowd {
    /// Flows that were answered; there is room for more.
    Entries(u32),
    /// No room, and nothing but unanswered connections.
    FullOfUnanswered,
    /// No room, and nothing but answered connections.
    FullOfAnswered,
}

/// A case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub probe: Probe,
    pub family: Family,
    pub proto: Proto,
    pub node_ports: bool,
    pub external_ips: bool,
    pub affinity: bool,
    /// Services without endpoints behind the others.
    pub without_endpoints: u32,
    /// Another client address for every packet.
    pub new_clients: bool,
    /// ICMP errors are not limited.
    pub icmp_unlimited: bool,
    /// IPVS connections of others, and the binary logarithm of the table's buckets.
    pub ipvs_conns: Option<(u32, u32)>,
    pub crowd: Option<Crowd>,
}

const PLAIN: Case = Case {
    probe: Probe::PodToVip,
    family: Family::Ipv4,
    proto: Proto::Tcp,
    node_ports: false,
    external_ips: false,
    affinity: false,
    without_endpoints: 0,
    new_clients: false,
    icmp_unlimited: false,
    ipvs_conns: None,
    crowd: None,
};

impl Case {
    pub(super) fn of(cell: &Cell) -> Result<Self, Unpredicted> {
        let to = |probe| Case { probe, ..PLAIN };
        Ok(match cell.case.as_str() {
            "grid" | "ipvs_grid" | "ipvs_sched" | "clusterip_ref" | "iptnft" | "pre121" => PLAIN,
            "udp" => Case { proto: Proto::Udp, ..PLAIN },
            "ipv6" => Case { family: Family::Ipv6, ..PLAIN },
            "nodeport" => Case { node_ports: true, ..to(Probe::WireToNodePort) },
            "nodeport_clusterip" => Case { node_ports: true, ..PLAIN },
            "externalip" => Case { external_ips: true, ..to(Probe::WireToExternalIp) },
            "masq_ext" | "pre121_masq" => to(Probe::WireToVip),
            "host_out" => to(Probe::HostToVip { from_node_address: false }),
            "host_out_masq" => to(Probe::HostToVip { from_node_address: true }),
            "affinity_hit" => Case { affinity: true, ..PLAIN },
            "affinity_miss" => Case { affinity: true, new_clients: true, ..PLAIN },
            "reject_limited" => Case { without_endpoints: 10, ..to(Probe::PodToNoEndpoints) },
            "reject_sent" => {
                Case { without_endpoints: 10, icmp_unlimited: true, ..to(Probe::PodToNoEndpoints) }
            }
            "miss_podip" | "pre121_miss_podip" => to(Probe::PodToPod),
            "miss_vipport" => Case { icmp_unlimited: true, ..to(Probe::PodToClosedPort) },
            "miss_unalloc_vip" => to(Probe::PodToNoService),
            "miss_ext_to_nodeip" => to(Probe::WireToNode),
            "ct_full_syn" => Case { crowd: Some(Crowd::FullOfUnanswered), ..PLAIN },
            "ct_full_est" => Case { crowd: Some(Crowd::FullOfAnswered), ..PLAIN },
            "ct_full_syn_miss" => Case { crowd: Some(Crowd::FullOfUnanswered), ..to(Probe::PodToPod) },
            "ct_full_est_miss" => Case { crowd: Some(Crowd::FullOfAnswered), ..to(Probe::PodToPod) },
            other => return Case::numbered(other),
        })
    }

    /// The case of a cell that says how long the rules take to load: some are those of several kinds of packets.
    pub(super) fn of_load(cell: &Cell) -> Result<Self, Unpredicted> {
        let case = match cell.case.as_str() {
            "affinity" | "affinity_scale" => Case { affinity: true, ..PLAIN },
            "miss" | "ipvs_conns" => PLAIN,
            _ => return Case::of(cell),
        };
        Ok(case)
    }

    /// `ipvs_conns_N_tabB` and `ct_entries_N`.
    fn numbered(name: &str) -> Result<Self, Unpredicted> {
        let unknown = || Unpredicted(format!("case {name}: not one the rig had"));
        if let Some(rest) = name.strip_prefix("ipvs_conns_") {
            let (conns, buckets) = rest.split_once("_tab").ok_or_else(unknown)?;
            let conns = conns.parse::<u32>().ok().filter(|&n| n <= 2_000_000).ok_or_else(unknown)?;
            let buckets = buckets.parse::<u32>().ok().filter(|b| b.is_power_of_two()).ok_or_else(unknown)?;
            if !(8..=27).contains(&buckets.ilog2()) {
                return Err(unknown());
            }
            return Ok(Case { ipvs_conns: Some((conns, buckets.ilog2())), ..PLAIN });
        }
        let entries = name.strip_prefix("ct_entries_").ok_or_else(unknown)?;
        let entries = entries.parse::<u32>().ok().filter(|&n| n <= 2_000_000).ok_or_else(unknown)?;
        Ok(Case { crowd: Some(Crowd::Entries(entries)), ..PLAIN })
    }
}
