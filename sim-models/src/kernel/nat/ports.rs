//! The search for a free port (`nf_nat_core.c:nf_nat_l4proto_unique_tuple`).
//!
//! Windows of 128, 64, 32, 16 and 8 ports, each from another random start, so at most 248 attempts. In the last 32
//! attempts of each window a closed connection may be pushed aside (`nf_nat_used_tuple_harder`). If every attempt finds
//! its tuple taken the last one is kept, as the kernel does; the confirmation of the connection then fails.

use super::{Binder, Bounds, Manip, Tuple};
use sim_core::classify::Proto;

/// Attempts of the first window (`NF_NAT_MAX_ATTEMPTS`).
const FIRST_WINDOW: u32 = 128;
/// Attempts left from which on it is tried harder (`NF_NAT_HARDER_THRESH`).
const HARDER: u32 = FIRST_WINDOW / 4;

/// The lowest port and the number of ports to search: those of the range, or those of the original port's class.
fn span(port: u16, proto: Proto, range: Option<(u16, u16)>) -> (u32, u32) {
    match (range, port) {
        (Some((low, high)), _) => {
            let (low, high) = if high < low { (high, low) } else { (low, high) };
            (u32::from(low), u32::from(high - low) + 1)
        }
        (None, _) if matches!(proto.number(), 1 | 58) => (0, 65_536),
        (None, 0..512) => (1, 511),
        (None, 512..1024) => (600, 424),
        (None, _) => (1024, 64_512),
    }
}

/// Reply tuple with a free port in the place that `manip` changes.
pub(super) fn search_port(binder: &mut Binder<'_>, reply: Tuple, manip: Manip, range: &Bounds) -> Tuple {
    let mut tuple = reply;
    let end = |t: &mut Tuple, port| match manip {
        Manip::Source => t.dst.set_port(port),
        Manip::Destination => t.src.set_port(port),
    };
    let had = if manip == Manip::Source { reply.dst.port() } else { reply.src.port() };
    let (low, size) = span(had, reply.proto, range.ports);
    let mut start = match (range.port_base, manip) {
        (Some(base), _) => u32::from(had.wrapping_sub(base)),
        // A destination's search begins at the range's first port.
        (None, Manip::Destination) if !range.random => 0,
        _ => binder.random.u32(binder.work) & 0xffff,
    };
    let mut window = FIRST_WINDOW.min(size);
    loop {
        for step in 0..window {
            end(&mut tuple, (low + ((start + step) & 0xffff) % size) as u16);
            let hard = window - step <= HARDER && reply.proto == Proto::Tcp;
            let used = match hard {
                true => binder.ct.is_used_harder(&tuple, binder.now, binder.work),
                false => binder.is_used(&tuple),
            };
            if !used {
                return tuple;
            }
        }
        if window >= size || window < 16 {
            return tuple;
        }
        window /= 2;
        start = binder.random.u32(binder.work) & 0xffff;
    }
}
