//! NAT bindings: which tuple a connection gets, and the probes that choosing it costs
//! (`net/netfilter/nf_nat_core.c:nf_nat_setup_info`, `get_unique_tuple`).
//!
//! A destination binding to one address and port is taken as it is (its one probe, made only if the port
//! changes, cannot change the outcome). A source binding keeps the port if it is free, or draws one at random with
//! `--random-fully`. Where no rule asks for a manipulation, a null binding probes once. Ranges of addresses are chosen
//! from by a hash of both ends, ranges of ports searched ([`ports`]). A search that finds nothing is no failure here:
//! the confirmation of the connection is.
//!
//! Left out: GRE keys, and the merging of two flows in opposite
//! directions (`nf_nat_used_tuple_new`).

pub mod ports;
pub mod range;

#[cfg(test)]
mod tests;

use super::conntrack::{Conntrack, Tuple};
use super::hook::KernelRandom;
use ports::search_port;
pub use range::Bounds;
use sim_core::classify::{Unit, Work};
use sim_core::units::SimTime;
use std::net::{IpAddr, SocketAddr};

/// Which end a binding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manip {
    /// The source, at POSTROUTING and INPUT.
    Source,
    /// The destination, at PREROUTING and OUTPUT.
    Destination,
}

/// What a binding is made with: the table that says which tuples are free, the clock and the CPU's random numbers.
pub struct Binder<'a> {
    /// The connections.
    pub ct: &'a mut Conntrack,
    /// Now.
    pub now: SimTime,
    /// Random numbers.
    pub random: &'a mut KernelRandom,
    /// Counters.
    pub work: &'a mut Work,
}

impl Binder<'_> {
    fn is_used(&mut self, reply: &Tuple) -> bool {
        self.ct.is_used(reply, self.now, self.work)
    }

    /// Reply tuple after the destination binding: answers come from `to`.
    pub fn destination(&mut self, reply: Tuple, to: SocketAddr) -> Tuple {
        self.work[Unit::NatDnat] += 1;
        if reply.src.port() != to.port() {
            self.work[Unit::NatTupleProbes] += 1;
        }
        Tuple { src: to, ..reply }
    }

    /// Reply tuple after a null binding (`nf_nat_alloc_null_binding`). A connection that no rule gave a source keeps
    /// its own, unless another connection has the same reply tuple already: then another port is searched. A
    /// destination is kept in any case.
    pub fn null(&mut self, reply: Tuple, manip: Manip) -> Tuple {
        self.work[Unit::NatNull] += 1;
        if !self.is_used(&reply) || manip == Manip::Destination {
            return reply;
        }
        // Once as the tuple that the connection has, once as the one that the range allows.
        if !self.is_used(&reply) {
            return reply;
        }
        search_port(self, reply, Manip::Source, &Bounds::address(reply.dst.ip()))
    }

    /// Reply tuple after masquerading: answers go to `node_ip` at a free port.
    pub fn masquerade(&mut self, reply: Tuple, node_ip: IpAddr, random_fully: bool) -> Tuple {
        self.work[Unit::NatMasquerade] += 1;
        let here = Bounds::address(node_ip);
        self.unique(reply, Manip::Source, &Bounds { random: random_fully, ..here })
    }

    /// Reply tuple after a binding to a range.
    pub fn range(&mut self, reply: Tuple, manip: Manip, range: &Bounds) -> Tuple {
        match manip {
            Manip::Source => self.work[Unit::NatMasquerade] += 1,
            Manip::Destination => self.work[Unit::NatDnat] += 1,
        }
        self.unique(reply, manip, range)
    }

    fn unique(&mut self, reply: Tuple, manip: Manip, range: &Bounds) -> Tuple {
        if manip == Manip::Source && !range.random {
            let sent = reply.reversed();
            if range.holds(sent.src) {
                if !self.is_used(&reply) {
                    return reply;
                }
            } else if let Some(same) = self.ct.translated_source(&sent, |at| range.holds(at), self.work) {
                let tuple = Tuple { dst: same, ..reply };
                if !self.is_used(&tuple) {
                    return tuple;
                }
            }
        }
        let tuple = range.choose_address(reply, manip);
        if !range.random {
            let port = if manip == Manip::Source { tuple.dst.port() } else { tuple.src.port() };
            let kept = match range.ports {
                Some((low, high)) => {
                    range.port_base.is_none()
                        && (low..=high).contains(&port)
                        && (low == high || !self.is_used(&tuple))
                }
                None => !self.is_used(&tuple),
            };
            if kept {
                return tuple;
            }
        }
        if manip == Manip::Destination && range.ports.is_none() {
            return tuple;
        }
        search_port(self, tuple, manip, range)
    }
}
