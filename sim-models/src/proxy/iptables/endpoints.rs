//! The chains of one Service port's endpoints, and the rules that spread connections over them.
//!
//! Source: `pkg/proxy/iptables/proxier.go:writeServiceToEndpointRules`, the KUBE-SEP- part of `syncProxyRules`,
//! and `computeProbability`.

use super::fixed::NatChain;
use super::{SyncContext, chain, is, rule};
use crate::kernel::xtables::{Chain, ChainId, Match, Rule, Target};
use crate::kube::{Endpoint, ServicePort};
use crate::proxy::names;
use ipnet::IpNet;
use sim_core::classify::Proto;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;

/// The KUBE-SEP- chains of one Service port: one for every reachable endpoint.
pub(super) struct EndpointChains<'a> {
    proto: Proto,
    endpoints: &'a [Endpoint],
    names: Vec<Arc<str>>,
    /// Positions in `endpoints`, sorted by address.
    by_addr: Vec<(SocketAddr, usize)>,
    first: ChainId,
}

impl<'a> EndpointChains<'a> {
    /// Names the chains of the port's reachable endpoints; they get the indices from `first` on.
    pub(super) fn new(port: &'a ServicePort, name: &str, first: ChainId) -> Self {
        let endpoints = &port.endpoints.reachable[..];
        let proto = port.proto;
        let names = endpoints
            .iter()
            .map(|endpoint| names::endpoint_chain(name, proto.name(), &endpoint.addr.to_string()))
            .collect();
        let mut by_addr: Vec<_> = endpoints.iter().enumerate().map(|(i, e)| (e.addr, i)).collect();
        by_addr.sort_unstable();
        EndpointChains { proto, endpoints, names, by_addr, first }
    }

    /// Names of the chains.
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    fn position(&self, addr: SocketAddr) -> usize {
        let at = self.by_addr.binary_search_by_key(&addr, |&(addr, _)| addr);
        let at = at.unwrap_or_else(|_| panic!("endpoint {addr} is in a list but not reachable"));
        self.by_addr[at].1
    }

    /// The rules that send a connection to one of `list`: to the endpoint it had before (affinity), else to each
    /// with the same probability.
    pub(super) fn spread(
        &self,
        list: &[Endpoint],
        name: &str,
        affinity_seconds: Option<u32>,
        cx: &SyncContext,
    ) -> Vec<Rule> {
        let positions: Vec<usize> = list.iter().map(|endpoint| self.position(endpoint.addr)).collect();
        let comments: Vec<Option<Match>> = list
            .iter()
            .map(|endpoint| {
                (!cx.large_cluster).then(|| Match::Comment(format!("{name} -> {}", endpoint.addr).into()))
            })
            .collect();
        let jump = |i: usize, condition: Option<Match>| Rule {
            matches: comments[i].clone().into_iter().chain(condition).collect(),
            ..rule(Target::Jump(ChainId(self.first.0 + positions[i] as u32)))
        };
        let n = list.len();
        let mut rules = Vec::with_capacity(if affinity_seconds.is_some() { 2 * n } else { n } + 1);
        if affinity_seconds.is_some() {
            rules.extend((0..n).map(|i| {
                let name = self.names[positions[i]].clone();
                jump(i, Some(Match::Recent { name, set: false, seconds: affinity_seconds }))
            }));
        }
        rules.extend((0..n).map(|i| {
            let left = n - i;
            jump(i, (left > 1).then(|| Match::Statistic { p: threshold(left) }))
        }));
        rules
    }

    /// Writes the chains to `out`: masquerade what an endpoint sends to itself, then translate.
    pub(super) fn write(
        &self,
        name: &str,
        affinity_seconds: Option<u32>,
        cx: &SyncContext,
        out: &mut Vec<Chain>,
    ) {
        let comment = (!cx.large_cluster).then(|| Match::Comment(name.into()));
        out.reserve_exact(self.endpoints.len());
        for (endpoint, chain_name) in self.endpoints.iter().zip(&self.names) {
            let hairpin = Rule {
                src: is(IpNet::from(endpoint.addr.ip())),
                matches: comment.iter().cloned().collect(),
                ..rule(Target::Jump(NatChain::MarkMasq.id()))
            };
            let mut matches: SmallVec<[Match; 2]> = comment.iter().cloned().collect();
            if affinity_seconds.is_some() {
                matches.push(Match::Recent { name: chain_name.clone(), set: true, seconds: None });
            }
            matches.push(Match::Ports { proto: self.proto, sport: None, dport: None });
            let translate = Rule { proto: is(self.proto), matches, ..rule(Target::Dnat(endpoint.addr)) };
            out.push(chain(chain_name.clone(), vec![hairpin, translate]));
        }
    }
}

/// The kernel's threshold of probability 1/`n`: kube-proxy writes ten decimals, iptables stores
/// `lround(p * 2^31)` (`extensions/libxt_statistic.c`).
fn threshold(n: usize) -> u32 {
    const DECIMALS: u128 = 10_000_000_000;
    let n = n as u128;
    // Go rounds the decimal text half to even; 1/n is never half way between two of them for n up to 2^31
    // unless n divides 2 * 10^10, and then the even neighbour is taken as here.
    let (quotient, rest) = (DECIMALS / n, DECIMALS % n);
    let up = 2 * rest > n || (2 * rest == n && quotient % 2 == 1);
    let p = quotient + u128::from(up);
    // The text is parsed to a double; at ten decimals its product is never near enough to a half for the
    // double's rounding to matter.
    ((p * (1 << 31) * 2 + DECIMALS) / (2 * DECIMALS)) as u32
}

#[cfg(test)]
mod tests {
    use super::threshold;

    #[test]
    fn probabilities_have_the_ten_decimals_that_kube_proxy_writes() {
        for n in 1..=20_000usize {
            let text = format!("{:.10}", 1.0 / n as f64);
            let p: f64 = text.parse().unwrap();
            assert_eq!(threshold(n), (p * f64::from(1u32 << 31)).round() as u32, "1/{n}");
        }
    }
}
