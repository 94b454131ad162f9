//! The ipsets of kube-proxy's ipvs mode (`pkg/proxy/ipvs/proxier.go:ipsetInfo`, `ipset.go:NewIPSet`).

use crate::kernel::ipset::{IpSet, SetEntry, SetKind};
use sim_core::classify::{Family, Proto};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One of the sets, in kube-proxy's order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    LoopBack,
    ClusterIp,
    ExternalIp,
    ExternalIpLocal,
    LoadBalancer,
    LoadBalancerFw,
    LoadBalancerLocal,
    LoadBalancerSourceIp,
    LoadBalancerSourceCidr,
    NodePortTcp,
    NodePortLocalTcp,
    NodePortUdp,
    NodePortLocalUdp,
    NodePortSctp,
    NodePortLocalSctp,
    HealthCheckNodePort,
    IpvsIps,
}

type Row = (Set, &'static str, SetKind, &'static str);

/// Set, name without `KUBE-`, kind, comment of the rules that use it.
const SETS: [Row; 17] = [
    (
        Set::LoopBack,
        "LOOP-BACK",
        SetKind::HashIpPortIp,
        "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
    ),
    (
        Set::ClusterIp,
        "CLUSTER-IP",
        SetKind::HashIpPort,
        "Kubernetes service cluster ip + port for masquerade purpose",
    ),
    (
        Set::ExternalIp,
        "EXTERNAL-IP",
        SetKind::HashIpPort,
        "Kubernetes service external ip + port for masquerade and filter purpose",
    ),
    (
        Set::ExternalIpLocal,
        "EXTERNAL-IP-LOCAL",
        SetKind::HashIpPort,
        "Kubernetes service external ip + port with externalTrafficPolicy=local",
    ),
    (Set::LoadBalancer, "LOAD-BALANCER", SetKind::HashIpPort, "Kubernetes service lb portal"),
    (
        Set::LoadBalancerFw,
        "LOAD-BALANCER-FW",
        SetKind::HashIpPort,
        "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    ),
    (
        Set::LoadBalancerLocal,
        "LOAD-BALANCER-LOCAL",
        SetKind::HashIpPort,
        "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    ),
    (
        Set::LoadBalancerSourceIp,
        "LOAD-BALANCER-SOURCE-IP",
        SetKind::HashIpPortIp,
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    ),
    (
        Set::LoadBalancerSourceCidr,
        "LOAD-BALANCER-SOURCE-CIDR",
        SetKind::HashIpPortNet,
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    ),
    (
        Set::NodePortTcp,
        "NODE-PORT-TCP",
        SetKind::BitmapPort,
        "Kubernetes nodeport TCP port for masquerade purpose",
    ),
    (
        Set::NodePortLocalTcp,
        "NODE-PORT-LOCAL-TCP",
        SetKind::BitmapPort,
        "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
    ),
    (
        Set::NodePortUdp,
        "NODE-PORT-UDP",
        SetKind::BitmapPort,
        "Kubernetes nodeport UDP port for masquerade purpose",
    ),
    (
        Set::NodePortLocalUdp,
        "NODE-PORT-LOCAL-UDP",
        SetKind::BitmapPort,
        "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
    ),
    (
        Set::NodePortSctp,
        "NODE-PORT-SCTP-HASH",
        SetKind::HashIpPort,
        "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
    ),
    (
        Set::NodePortLocalSctp,
        "NODE-PORT-LOCAL-SCTP-HASH",
        SetKind::HashIpPort,
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    ),
    (
        Set::HealthCheckNodePort,
        "HEALTH-CHECK-NODE-PORT",
        SetKind::BitmapPort,
        "Kubernetes health check node port",
    ),
    (Set::IpvsIps, "IPVS-IPS", SetKind::HashIp, "Kubernetes ipvs service addresses"),
];

/// Longest name of an ipset.
const NAME_MAX: usize = 31;

impl Set {
    fn row(self) -> &'static Row {
        SETS.iter().find(|row| row.0 == self).expect("every set is in the table")
    }

    /// The comment of rules that match it.
    pub(super) fn comment(self) -> &'static str {
        self.row().3
    }

    /// How many dimensions a rule names.
    pub(super) fn dimensions(self) -> usize {
        match self.row().2 {
            SetKind::HashIp | SetKind::BitmapPort => 1,
            SetKind::HashIpPort => 2,
            SetKind::HashIpPortIp | SetKind::HashIpPortNet => 3,
        }
    }

    /// The set of node ports of a protocol, and the one for `externalTrafficPolicy: Local`.
    pub(super) fn node_ports(proto: Proto) -> (Set, Set) {
        match proto {
            Proto::Tcp => (Set::NodePortTcp, Set::NodePortLocalTcp),
            Proto::Udp => (Set::NodePortUdp, Set::NodePortLocalUdp),
            Proto::Sctp => (Set::NodePortSctp, Set::NodePortLocalSctp),
            Proto::Icmp | Proto::Icmpv6 | Proto::Other(_) => panic!("no Service has protocol {proto}"),
        }
    }
}

/// The sets of one node while they are filled.
#[derive(Debug)]
pub(super) struct Sets {
    sets: Vec<(Set, IpSet)>,
    seen: BTreeSet<(Set, SetEntry)>,
}

impl Sets {
    pub(super) fn new(family: Family) -> Self {
        let make = |&(set, base, kind, _): &Row| {
            let mut name = match family {
                Family::Ipv4 => format!("KUBE-{base}"),
                Family::Ipv6 => format!("KUBE-6-{base}"),
            };
            name.truncate(NAME_MAX);
            (set, IpSet::new(&name, kind, family))
        };
        Sets { sets: SETS.iter().map(make).collect(), seen: BTreeSet::new() }
    }

    fn at(&self, set: Set) -> &IpSet {
        &self.sets[set as usize].1
    }

    pub(super) fn insert(&mut self, set: Set, entry: SetEntry) {
        if self.seen.insert((set, entry)) {
            self.sets[set as usize].1.elements.push(entry);
        }
    }

    pub(super) fn is_empty(&self, set: Set) -> bool {
        self.at(set).elements.is_empty()
    }

    pub(super) fn name(&self, set: Set) -> Arc<str> {
        self.at(set).name.clone()
    }

    /// All of them, in order of creation.
    pub(super) fn into_all(self) -> Vec<IpSet> {
        self.sets.into_iter().map(|(_, set)| set).collect()
    }

    /// The sets of the calibration rulesets: fewer, larger, in their own order.
    pub(super) fn into_measured(self) -> Vec<IpSet> {
        let always = [
            Set::ClusterIp,
            Set::LoadBalancer,
            Set::ExternalIp,
            Set::ExternalIpLocal,
            Set::LoopBack,
            Set::IpvsIps,
            Set::HealthCheckNodePort,
        ];
        let filled = [Set::NodePortTcp, Set::NodePortUdp].into_iter().filter(|&set| !self.is_empty(set));
        let one = |set| IpSet { maxelem: MEASURED_MAXELEM, ..self.at(set).clone() };
        always.into_iter().chain(filled).map(one).collect()
    }
}

/// `maxelem` of the calibration rulesets.
const MEASURED_MAXELEM: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        assert!(SETS.iter().enumerate().all(|(n, row)| row.0 as usize == n));
    }

    #[test]
    fn ipv6_names_are_cut_to_31_characters() {
        let sets = Sets::new(Family::Ipv6);
        assert_eq!(&*sets.name(Set::ClusterIp), "KUBE-6-CLUSTER-IP");
        assert_eq!(&*sets.name(Set::LoadBalancerSourceCidr), "KUBE-6-LOAD-BALANCER-SOURCE-CID");
    }
}
