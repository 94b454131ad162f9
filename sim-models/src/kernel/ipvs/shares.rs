//! Which real server of a virtual server gets how many connections in the long run: what the scheduler aims at, where
//! the next choice depends on connections that only the node knows.
//!
//! Source: the schedulers of [`super::scheduler`]. Shares are by weight or equal; a scheduler that hashes gives all of one
//! client's (or one address's) connections to one server, which is not a matter of shares.

use super::VirtualServer;
use std::net::SocketAddr;

/// What a scheduler chooses by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Each in turn, or whoever has least: equal shares among those of a weight that is not 0.
    Equal,
    /// The same by weight.
    ByWeight,
    /// By a hash of the client's address: always the same server for this one.
    Client,
    /// By the Service's address: one server, until it is overloaded or gone.
    Destination,
    /// The heaviest server takes all, as long as it can.
    Heaviest,
}

impl Aim {
    /// What the scheduler of this name aims at.
    pub fn of(scheduler: &str) -> Option<Aim> {
        Some(match scheduler {
            "rr" | "lc" => Aim::Equal,
            "wrr" | "wlc" | "sed" | "nq" | "twos" => Aim::ByWeight,
            "sh" | "mh" => Aim::Client,
            "dh" | "lblc" | "lblcr" => Aim::Destination,
            "fo" | "ovf" => Aim::Heaviest,
            _ => return None,
        })
    }
}

/// Weights that the scheduler shares connections out by; `None` if it does not share them out.
pub fn long_run(server: &VirtualServer) -> Option<Vec<(SocketAddr, u32)>> {
    let weight = |w: u32| match Aim::of(&server.scheduler)? {
        Aim::Equal => Some(w.min(1)),
        Aim::ByWeight => Some(w),
        Aim::Client | Aim::Destination | Aim::Heaviest => None,
    };
    server.real.iter().map(|real| Some((real.addr, weight(real.weight)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::scheduler::SCHEDULERS;
    use super::*;

    #[test]
    fn every_scheduler_aims_at_something() {
        for (name, ..) in SCHEDULERS {
            assert!(Aim::of(name).is_some(), "{name}");
        }
    }
}
