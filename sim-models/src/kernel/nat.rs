//! NAT bindings: which tuple a connection gets, and the probes that choosing it costs
//! (`net/netfilter/nf_nat_core.c`).
//!
//! A destination binding to one address and port is taken as it is (its one probe, made only if the port
//! changes, cannot change the outcome). A source binding to the node's address keeps the port if it is free,
//! or draws one at random with `--random-fully`. Where no rule asks for a source, a null binding probes once.
//!
//! Left out: NAT to ranges, and eviction of TIME_WAIT entries in a port search.

use super::conntrack::{Conntrack, Tuple};
use super::hook::KernelRandom;
use sim_core::classify::{Unit, Work};
use sim_core::units::SimTime;
use std::net::{IpAddr, SocketAddr};

/// Attempts of the first window of a port search; later windows are 64, 32, 16 and 8.
const FIRST_WINDOW: u32 = 128;

/// Reply tuple after the destination binding: answers come from `to`.
pub fn bind_destination(reply: Tuple, to: SocketAddr, work: &mut Work) -> Tuple {
    work[Unit::NatDnat] += 1;
    if reply.src.port() != to.port() {
        work[Unit::NatTupleProbes] += 1;
    }
    Tuple { src: to, ..reply }
}

/// Reply tuple after a null binding. A connection that no rule gave a source keeps its own, unless another
/// connection has the same reply tuple already: then another port is searched.
pub fn bind_null(
    ct: &mut Conntrack,
    reply: Tuple,
    now: SimTime,
    random: &mut KernelRandom,
    work: &mut Work,
) -> Tuple {
    work[Unit::NatNull] += 1;
    if ct.is_used(&reply, now, work) { search_port(ct, reply, now, random, work) } else { reply }
}

/// Reply tuple after masquerading: answers go to `node_ip` at a free port.
pub fn bind_masquerade(
    ct: &mut Conntrack,
    reply: Tuple,
    node_ip: IpAddr,
    random_fully: bool,
    now: SimTime,
    random: &mut KernelRandom,
    work: &mut Work,
) -> Tuple {
    work[Unit::NatMasquerade] += 1;
    let reply = Tuple { dst: SocketAddr::new(node_ip, reply.dst.port()), ..reply };
    if !random_fully && !ct.is_used(&reply, now, work) {
        return reply;
    }
    search_port(ct, reply, now, random, work)
}

/// `nf_nat_l4proto_unique_tuple`: windows of ports from random starts. If every attempt finds its tuple taken the
/// last one is kept, as the kernel does; the confirmation of the connection then fails.
fn search_port(
    ct: &mut Conntrack,
    reply: Tuple,
    now: SimTime,
    random: &mut KernelRandom,
    work: &mut Work,
) -> Tuple {
    let mut tuple = reply;
    // Ports of the same class as the original one: below 512, below 1024, or the rest.
    let (low, size) = match reply.dst.port() {
        0..512 => (1u32, 511u32),
        512..1024 => (600, 424),
        _ => (1024, 64_512),
    };
    let mut window = FIRST_WINDOW;
    while window >= 8 {
        let start = random.u32(work) & 0xffff;
        for step in 0..window {
            tuple.dst.set_port((low + (start + step) % size) as u16);
            if !ct.is_used(&tuple, now, work) {
                return tuple;
            }
        }
        window /= 2;
    }
    tuple
}
